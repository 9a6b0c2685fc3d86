"""What the processes of a service all find in the same file is said by one of them."""

from __future__ import annotations

import os
import threading
import zlib

#: What this process, and those that it descends from, have said; children inherit it.
_VARIABLE = "_ASCEND_OTEL_SAID"


def is_news(message: str) -> bool:
    """Whether a message has not been said yet, here or in a process from which this one descends."""
    key = f"{zlib.crc32(message.encode(errors='replace')):08x}"
    said = os.environ.get(_VARIABLE, "").split()
    if key in said:
        return False
    if threading.current_thread() is threading.main_thread():  # others may read the environment while it changes
        os.environ[_VARIABLE] = " ".join([*said, key])
    return True
