"""What lies beside the files of a recording."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from ascend_opentelemetry.npu.operators._windows import MAX_TIME

_NAME = re.compile(r"profiler_info(?:_([0-9]{1,9}))?\.json")


class Info(NamedTuple):
    """Of ``profiler_info_<rank>.json`` of torch_npu.

    Attributes:
        rank: of the process in the distributed job; None where it is not said.
        end_ns: end of the recording, ns since 1970; 0 where it is not said.
    """

    rank: int | None = None
    end_ns: int = 0


def info(recording: Path) -> Info:
    """Read it; a file that is missing or damaged says nothing."""
    try:
        found = [(path, match) for path in recording.iterdir() if (match := _NAME.fullmatch(path.name))]
    except OSError:
        return Info()
    if len(found) != 1:
        return Info()
    path, match = found[0]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        end = int(content.get("end_info", {}).get("collectionTimeEnd", 0))
    except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        end = 0
    return Info(int(match[1]) if match[1] else None, end if 0 < end < MAX_TIME else 0)
