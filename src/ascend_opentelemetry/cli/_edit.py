"""Changes of a config file that leave everything else in it as it is."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ascend_opentelemetry.native import members

#: A file that is mounted by itself, a folder that cannot be written, an owner that cannot be kept.
_NO_RENAME = frozenset({errno.EBUSY, errno.EACCES, errno.EPERM})


def edit(text: str, changes: Mapping[str, Any]) -> str:
    """Set members of a JSON object; what is new goes to the end, spaced as the last member.

    Args:
        text: a valid JSON object. Where a key is there twice, the last one counts and is changed.
        changes: values by key, as JSON knows them.
    """
    found = {key: (at, value_at, value) for key, at, value_at, value in members(text)}
    for key in sorted(found.keys() & changes.keys(), key=lambda key: -found[key][1]):
        _, value_at, value = found[key]
        if value != changes[key] or type(value) is not type(changes[key]):
            text = text[:value_at] + _dump(changes[key]) + text[_end(text, value_at) :]
    new = [f"{_dump(key)}: {_dump(value)}" for key, value in changes.items() if key not in found]
    if not new:
        return text
    last = max((value_at for _, _, value_at, _ in members(text)), default=None)
    if last is None:
        start = text.index("{") + 1
        return text[:start] + ", ".join(new) + text[text.rindex("}") :]
    key_at = max(at for _, at, _, _ in members(text))
    before = text[:key_at]
    space = before[len(before.rstrip(" \t\r\n")) :]
    if space == "" and before.endswith("{") and len(found) == 1:
        space = " "
    end = _end(text, last)
    return text[:end] + "".join(f",{space}{member}" for member in new) + text[end:]


def write(path: Path, text: str) -> None:
    """Replace the content of a file at once, behind symlinks too; mode and owner stay.

    Where a rename cannot do that, the file is written in place.

    Raises:
        OSError: it could not be written, or is read-only.
    """
    target = path.resolve(strict=True)
    status = target.stat()
    if not status.st_mode & 0o222:  # root could write it all the same
        raise PermissionError(errno.EACCES, "it is read-only")
    data = text.encode()
    try:
        _write_aside(target, status, data)
    except OSError as error:
        if error.errno not in _NO_RENAME:
            raise
        with target.open("r+b") as out:
            out.write(data)
            out.truncate()


def _write_aside(target: Path, status: os.stat_result, data: bytes) -> None:
    file, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(out.fileno(), status.st_uid, status.st_gid)
            os.fchmod(out.fileno(), stat.S_IMODE(status.st_mode))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _end(text: str, value_at: int) -> int:
    return json.JSONDecoder().raw_decode(text, value_at)[1]


def _dump(value: Any) -> str:
    # a name of a file that is no UTF-8 has characters that only an escape can write
    return json.dumps(value, ensure_ascii=not (isinstance(value, str) and value.isprintable()))
