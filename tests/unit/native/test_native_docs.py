"""Run this file as a program to bring the lists of docs/native-config.md up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ascend_opentelemetry.native import field_table
from ascend_opentelemetry.native._args import _COLUMNS, _MEANINGS
from ascend_opentelemetry.native._domains import domain_table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "native-config.md"


def sections() -> dict[str, str]:
    return {
        "fields": field_table(),
        "domains": domain_table(),
        "names": ", ".join(f"`{name}`" for name in sorted(_COLUMNS | _MEANINGS)) + "\n",
    }


def pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}[^>]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)


@pytest.mark.parametrize("name", ["fields", "domains", "names"])
def test_page_is_up_to_date(name: str) -> None:
    found = pattern(name).search(PAGE.read_text())
    assert found is not None
    assert found[0] == f"{found[1]}{sections()[name]}{found[2]}"


def test_table_has_every_field_of_the_guide() -> None:
    guide = (
        "enable prof_dir profiler_level host_system_usage_freq npu_memory_usage_freq acl_task_time"
        " acl_prof_task_time_level api_filter kernel_filter timelimit domain"
    )
    names = re.findall(r"^\| `(\w+)` \|", field_table(), re.MULTILINE)
    assert set(guide.split()) < set(names)
    assert "| `enable` | `0`, `1` | `0` | Profiling is on or off. |" in field_table().splitlines()


if __name__ == "__main__":
    text = PAGE.read_text()
    for section, content in sections().items():
        text = pattern(section).sub(lambda found, content=content: f"{found[1]}{content}{found[2]}", text)
    PAGE.write_text(text)
