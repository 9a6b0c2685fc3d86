"""Which files were imported, and where to: an import that was cut off goes on with the next file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ascend_opentelemetry.npu.recordings._sink import Kind

_CHUNK = 2**20


def default_path(env: Mapping[str, str]) -> Path:
    """The file of this user: below ``XDG_STATE_HOME``, else ``~/.local/state``.

    Raises:
        OSError: the user has no home.
    """
    try:
        home = Path(env.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError as error:  # a number of a user that is in no list, as containers have it
        raise FileNotFoundError("this user has no home") from error
    return home / "ascend-otel" / "npu-import.jsonl"


def stamp(path: Path) -> str:
    """Digest of the content.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class ImportState:
    """Imported files of a target: a file of JSON lines, of which the last one of a file counts.

    Imports that run at the same time add their lines to one file. A line begins with its line feed, so that one that was
    cut off spoils no other.

    Args:
        path: of the state; it is made where it is missing.
        target: where the data went: another endpoint knows nothing yet.

    Raises:
        OSError: the state cannot be written.
    """

    def __init__(self, path: Path, target: str) -> None:
        self._path = path
        self._target = target
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            file.seek(0)
            found = [entry for line in file if (entry := self._entry(line)) is not None]
        #: Content and kinds of each file.
        self._entries: dict[str, tuple[str, Sequence[Any]]] = dict(found)

    def kinds(self, file: Path, content: str) -> set[Kind] | None:
        """What was imported from the file while it had this content; None if it was not."""
        known, kinds = self._entries.get(str(file.absolute()), ("", ()))
        return set(kinds) if known == content else None

    def add(self, file: Path, content: str, kinds: set[Kind]) -> None:
        """Note a file that was taken.

        Raises:
            OSError: the state cannot be written.
        """
        name = str(file.absolute())
        entry = {"target": self._target, "file": name, "content": content, "kinds": sorted(kinds)}
        with self._path.open("a", encoding="utf-8") as state:
            state.write(f"\n{json.dumps(entry)}")
        self._entries[name] = content, entry["kinds"]

    def _entry(self, line: str) -> tuple[str, tuple[str, Sequence[Any]]] | None:
        """Name, content and kinds of a file that was sent to this target; None for any other line."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(entry, dict) or entry.get("target") != self._target:
            return None
        name, content, kinds = (entry.get(key) for key in ("file", "content", "kinds"))
        if not isinstance(name, str) or not isinstance(content, str) or not isinstance(kinds, list):
            return None
        return name, (content, [kind for kind in kinds if isinstance(kind, str)])
