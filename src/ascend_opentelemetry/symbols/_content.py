"""The bytes of a symbols file."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

#: A larger file would keep the program waiting for more than a second; the largest in the field has 18 KiB.
MAX_BYTES = 1 << 18


class Content(NamedTuple):
    """What is in the file, and whether every user of the machine may have put it there."""

    data: bytes
    writable_by_all: bool


def read(path: str | os.PathLike[str]) -> Content:
    """Read a symbols file; one that is no file, such as a pipe without a writer, is not waited for.

    Raises:
        OSError: it cannot be read, or is no regular file of at most ``MAX_BYTES``; ``strerror`` says why.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise OSError(errno.EINVAL, f"is no regular file of at most {MAX_BYTES >> 10} KiB")
        return Content(os.read(file, MAX_BYTES), bool(status.st_mode & stat.S_IWOTH))
    finally:
        os.close(file)
