"""Finds the files of recordings below a folder, and which of them say the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, get_args

from ascend_opentelemetry.npu.recordings import _csv, _db, _json
from ascend_opentelemetry.npu.recordings._sink import Kind, Reader, RecordingError

_ALL: frozenset[Kind] = frozenset(get_args(Kind))
_KERNELS: frozenset[Kind] = frozenset({"operators", "communication"})

#: Names of files, the best source of a thing first, and what they may hold: what one file has given is not taken again
#: from a later kind of file of the same recording.
_FILES: tuple[tuple[str, Reader, frozenset[Kind]], ...] = (
    (r"ascend_pytorch_profiler.*\.db", _db.read, _ALL),
    (r"msprof_.*\.db", _db.read, _ALL),
    (r"kernel_details.*\.csv", _csv.read, _KERNELS),
    (r"memory_record.*\.csv", _csv.read, frozenset({"allocator"})),
    (r"operator_memory.*\.csv", _csv.read, frozenset({"allocations"})),
    (r"npu_module_mem.*\.csv", _csv.read, frozenset({"modules"})),
    (r"op_summary.*\.csv", _csv.read, _KERNELS),
    (r"communication\.json", _json.read, frozenset({"communication", "transfers"})),
    (r"trace_view\.json|msprof_.*\.json", _json.read, _KERNELS),
    (r"op_statistic.*\.csv", _csv.read, frozenset({"operators"})),
)
_RANKED = [(re.compile(pattern), reader, kinds) for pattern, reader, kinds in _FILES]
_BY_SUFFIX: dict[str, Reader] = {".db": _db.read, ".csv": _csv.read, ".json": _json.read}

_TORCH_FOLDER = re.compile(r".+_ascend_pt")
_RAW_FOLDER = re.compile(r"PROF_\d+_.+")
_EXPORT_FOLDER = "mindstudio_profiler_output"
_OUTPUT_FOLDERS = frozenset({"ASCEND_PROFILER_OUTPUT", _EXPORT_FOLDER})
#: What msprof adds to the name of a file: when it was exported, local time to the second.
_EXPORTED_AT = re.compile(r"_\d{14}(?=\.[a-z]+$)")

#: Seconds for an export by msprof.
_EXPORT_TIMEOUT = 3600


class Source(NamedTuple):
    """A file to read.

    Attributes:
        path: of the file.
        rank: lower ones of the same recording come first, and hide what they have given in higher ones.
        recording: folder of the recording.
        read: the reader.
        kinds: what it may hold.
    """

    path: Path
    rank: int
    recording: Path
    read: Reader
    kinds: frozenset[Kind]


class Plan:
    """The files below a path, one recording after the other, the best of each first.

    Args:
        path: a file or a folder.

    Attributes:
        sources: the files.
        problems: what cannot be read at all.
        replaced: older exports, which are not read, and the newer one of each.
    """

    def __init__(self, path: Path) -> None:
        self.problems: list[RecordingError] = []
        self.sources: list[Source] = []
        self.replaced: dict[Path, Path] = {}
        #: Ranks of the files that gave a kind, by recording.
        self._given: dict[Path, dict[Kind, int]] = {}
        try:
            self.sources, raw, self.problems, self.replaced = find(path)
        except RecordingError as error:
            self.problems.append(error)
            return
        for folder in raw:
            self._export(folder)
        if not self.sources and not self.problems:
            self.problems.append(RecordingError(path, "holds no recording of an NPU"))

    def _export(self, folder: Path) -> None:
        try:
            self.sources += export(folder)
        except RecordingError as error:
            self.problems.append(error)

    def hidden(self, source: Source) -> frozenset[Kind]:
        """Kinds that a better file of the recording has given."""
        given = self._given.get(source.recording, {})
        return frozenset(kind for kind, rank in given.items() if rank < source.rank)

    def gave(self, source: Source, kinds: Iterable[Kind]) -> None:
        """Note what a file has given."""
        given = self._given.setdefault(source.recording, {})
        for kind in kinds:
            given.setdefault(kind, source.rank)


class Found(NamedTuple):
    """What lies below a folder.

    Attributes:
        sources: the files, recording by recording.
        raw: ``PROF_`` folders that msprof must export first.
        problems: folders that cannot be read.
        replaced: files that msprof has exported again since, and the newest of each, which is among ``sources``.
    """

    sources: list[Source]
    raw: list[Path]
    problems: list[RecordingError]
    replaced: dict[Path, Path]


def find(path: Path) -> Found:
    """Look for recordings.

    Args:
        path: a file, which is taken whatever its name is, or a folder, in which names decide.

    Raises:
        RecordingError: there is nothing at ``path``, or a file that is neither .db, .csv nor .json.
    """
    try:
        if not path.is_dir():
            return Found([_file(path)], [], [], {})
    except OSError as error:
        raise _unreadable(path, error) from error
    found: list[Source] = []
    raw: list[Path] = []
    problems: list[RecordingError] = []
    for folder, below, files in os.walk(
        path, onerror=lambda error: problems.append(_unreadable(Path(error.filename), error))
    ):
        below.sort()
        here = Path(folder)
        if _is_raw(here, below):
            raw.append(here)
        for name in files:
            for rank, (pattern, reader, kinds) in enumerate(_RANKED):
                if pattern.fullmatch(name):
                    found.append(Source(here / name, rank, _recording(here), reader, kinds))
                    break
    read = {source.recording for source in found}
    found.sort(key=lambda source: (source.recording, source.rank, source.path))
    newest = {_export_name(source.path): source.path for source in found}
    best = {source.path: newest[_export_name(source.path)] for source in found}
    return Found(
        [source for source in found if best[source.path] == source.path],
        [folder for folder in raw if _recording(folder) not in read],
        problems,
        {older: newer for older, newer in best.items() if older != newer},
    )


def _export_name(path: Path) -> Path:
    """The same for all exports of a thing by msprof, which keeps the older ones; other files have names of their own."""
    exported = path.parent.name == _EXPORT_FOLDER or any(
        _RAW_FOLDER.fullmatch(one.name) for one in path.absolute().parents
    )
    return path.with_name(_EXPORTED_AT.sub("_*", path.name)) if exported else path


def _file(path: Path) -> Source:
    if not path.exists():
        raise RecordingError(path, "does not exist")
    reader = _BY_SUFFIX.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise RecordingError(path, "is no recording: give a folder, or a .db, .csv or .json file")
    return Source(path, 0, _recording(path.parent), reader, _ALL)


def _unreadable(path: Path, error: OSError) -> RecordingError:
    return RecordingError(path, f"cannot be read: {error.strerror or error}")


def _recording(folder: Path) -> Path:
    """The folder of torch_npu around a file, else that of msprof, else the file's own."""
    around = [folder.absolute(), *folder.absolute().parents]
    for pattern in (_TORCH_FOLDER, _RAW_FOLDER):
        for parent in around:
            if pattern.fullmatch(parent.name):
                return parent
    return around[1] if around[0].name in _OUTPUT_FOLDERS else around[0]


def _is_raw(folder: Path, below: Iterable[str]) -> bool:
    return _RAW_FOLDER.fullmatch(folder.name) is not None and any(
        name == "host" or name.startswith("device_") for name in below
    )


def export(folder: Path) -> list[Source]:
    """Let msprof make a database of a raw folder.

    Returns:
        The files that are there then.

    Raises:
        RecordingError: msprof is not on PATH, or fails.
    """
    command = ["msprof", "--export=on", "--type=db", f"--output={folder}"]
    program = shutil.which("msprof")
    if program is None:
        raise RecordingError(folder, f"is raw, and msprof is not on PATH: where CANN is, run `{' '.join(command)}`")
    try:
        done = subprocess.run(  # noqa: S603
            [program, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_EXPORT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RecordingError(folder, f"is raw, and msprof could not export it: {error}") from error
    sources = find(folder).sources
    if done.returncode or not sources:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2][:200]
        reason = f"exit code {done.returncode}: {said}" if done.returncode else "it made no file"
        raise RecordingError(folder, f"is raw, and `{' '.join(command)}` did not export it: {reason}")
    return sources
