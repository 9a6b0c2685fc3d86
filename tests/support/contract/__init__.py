"""What native files must be, judged by a reader that shares nothing with the writer.

Numbers are those of the traps in the layout reference; words name a rule of the layout itself.
"""

from __future__ import annotations

from tests.support.contract._check import check
from tests.support.contract._database import Row, read_meta, read_rows
from tests.support.contract._violation import Violation

__all__ = ["Row", "Violation", "check", "read_meta", "read_rows"]
