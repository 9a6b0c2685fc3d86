"""Standard output that may end before we do: of ``| head``, or on a full disk."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable


def tell(line: str) -> None:
    """Print a line at once; a reader that has gone ends the printing alone, not what is told."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard()


def counted(count: int, one: str, many: str = "") -> str:
    """``1 operator``, ``2 operators``; ``many``: where it is more than an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def ending_well(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that says nothing more when its reader has gone, and one line when it cannot print or is interrupted."""

    def guarded(options: argparse.Namespace) -> int:
        try:
            code = run(options)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard()
            return 0
        except OSError as error:
            if error.filename is None:
                _discard()
            what = "the output cannot be written: " if error.filename is None else ""
            sys.stderr.write(f"ascend-otel: {what}{error}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write("ascend-otel: interrupted\n")
            return 128 + signal.SIGINT
        return code

    return guarded


def _discard() -> None:
    """Let what is still printed, and what Python writes when it ends, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
