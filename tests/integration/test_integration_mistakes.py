"""What a user gets wrong is said once, with file and field, and the program runs as without us."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.contract import read_rows

OUTPUT = "parent [0, 10] 30\nparent parent failed\n"
ROWS = {"load": 1, "scale": 3, "engineStep": 3, "generate": 1, "start": 1, "fail": 1}


def test_without_a_mistake_nothing_is_said(program) -> None:
    program.native()
    done = program.serve()
    assert (done.code, done.out, done.warnings) == (0, OUTPUT, [])


def test_symbols_that_are_no_yaml(program) -> None:
    program.native()
    program.symbols.write_text("- symbol: fake_vllm.engine:Engine.step\n- symbol: [fake_vllm\n  name: x\n")
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    (said,) = done.warnings
    assert said.startswith(f"{program.symbols}:")
    assert "broken YAML" in said
    assert Counter(row.name for row in read_rows(program.folder)) == {"step": 3}


def test_a_symbol_that_is_none(program) -> None:
    program.native()
    program.symbols.write_text(
        "- symbol: fake_vllm.engine:Engine.step\n  attributes:\n  - name: a\n    expr: batch |\n"
        "- symbol: fake_vllm.engine:Engine.gone\n"
    )
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    first, second = done.warnings
    assert first.startswith(f"{program.symbols}:4: attributes.expr: ")
    assert second == (
        f"{program.symbols}:5: fake_vllm.engine:Engine.gone does not exist in this version; it is left out"
    )


def test_a_config_that_is_no_json(program) -> None:
    program.native()
    program.config.write_text('{"enable": 1,\n "prof_dir": }')
    done = program.serve(seconds=0.6)
    assert (done.code, done.out) == (0, OUTPUT)
    (said,) = done.warnings
    assert said.startswith(f"{program.config}:2:14: no valid JSON")
    assert said.endswith("profiling stays off")
    assert program.databases == []


def test_a_field_that_is_wrong(program) -> None:
    program.native(timelimit="soon", no_such_field=1)
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    timelimit, unknown = done.warnings
    assert timelimit.startswith(f"{program.config}:4: \"timelimit\": 'soon' ")
    assert unknown == f'{program.config}:5: "no_such_field": 1 is no known field and is ignored'
    assert Counter(row.name for row in read_rows(program.folder)) == ROWS


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        ("no_such_module:handler", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:missing", "AttributeError: module 'json' has no attribute 'missing'"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_a_timer(program, handler, reason) -> None:
    program.native()
    program.symbols.write_text(f"- symbol: fake_vllm.engine:Engine.step\n  handler: {handler}\n")
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    said = f"{program.symbols}:1: handler {handler} cannot be used ({reason}); "
    assert done.warnings == [f"{said}fake_vllm.engine:Engine.step is timed instead"]
    assert Counter(row.name for row in read_rows(program.folder)) == {"step": 3}


def test_a_handler_that_raises(program) -> None:
    program.native()
    (program.folder / "mine.py").write_text("def handler(original, *args, **kwargs):\n    raise RuntimeError('mine')\n")
    program.symbols.write_text("- symbol: fake_vllm.engine:Engine.scale\n  handler: mine:handler\n")
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    said = [line for line in done.warnings if line.startswith(str(program.symbols))]
    assert said == [f"{program.symbols}:1: the handler of fake_vllm.engine:Engine.scale raised RuntimeError: mine"]


def test_a_step_ratio_that_is_none(program) -> None:
    program.native()
    done = program.serve(OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO="half")
    assert (done.code, done.out) == (0, OUTPUT)
    assert done.warnings == ["OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO='half' is no number from 0 to 1: 0.01 is used"]


def test_a_folder_that_cannot_be_written(program) -> None:
    (program.folder / "file").write_text("")
    program.native(prof_dir=str(program.folder / "file" / "prof"))
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    (said,) = done.warnings
    assert str(program.folder / "file" / "prof") in said
    assert "rows are dropped" in said
