"""The ``args`` JSON of a native row, and the attribute names that the analyzer keeps for itself."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

_logger = logging.getLogger(__name__)

#: Columns of the analyzer's frame: a row with such an attribute ends the analysis of all files.
_COLUMNS = frozenset(
    {
        "name", "domain", "pid", "tid", "id", "duration", "depth", "track_id", "cname", "flag_id", "start_time",
        "end_time", "during_time", "start_datetime", "end_datetime", "args", "message", "markId", "prof_id", "hostuid",
        "hostname", "ppid", "dpRankId", "event", "type"
    }
)  # fmt: skip

#: What the analyzer overwrites or gives a meaning, so that only the package's own handlers may write it.
_MEANINGS = frozenset(
    {
        "from", "to", "status", "batchType", "batch_type", "batch_size", "role", "res_list", "rid_list",
        "token_id_list", "dp_list", "blocks", "endFlag", "dp_rank", "rank", "prefill_batch_size", "decode_batch_size",
        "total_blocks", "used_blocks", "free_blocks", "blocks_allocated", "blocks_freed", "kvcache_usage_rate"
    }
)  # fmt: skip

#: Rows of these names end the analysis when one of them lacks the request ids that the package's own rows have.
_BATCHES = frozenset({"batchFrameworkProcessing", "BatchSchedule"})

_MAX_NAMES = 4096
_MAX_TEXT = 256
_MAX_DEPTH = 8
_WORD = 1 << 63


class _Names(dict[str, str]):
    """From an attribute name to ``"<native name>": `` as JSON text."""

    def __init__(self, *reserved: frozenset[str], user: bool) -> None:
        super().__init__()
        self._reserved = frozenset[str]().union(*reserved)
        self._user = user

    def __missing__(self, key: str) -> str:
        name = key
        if key in self._reserved or (self._user and key.endswith(("=", "+"))):
            name = f"{key}_"
            _warn_once(key)
        text = f"{encode_basestring_ascii(name)}: "
        if len(self) < _MAX_NAMES:
            self[key] = text
        return text

    def reserve(self, name: str) -> None:
        self._reserved |= {name}
        self.pop(name, None)


_own = _Names(_COLUMNS, user=False)
_users = _Names(_COLUMNS, _MEANINGS, user=True)
_said: set[str] = set()


def _warn_once(key: str) -> None:
    if key not in _said and len(_said) < _MAX_NAMES:
        _said.add(key)
        _logger.warning(
            'attribute "%s" is called "%s_" in native files: msserviceprofiler keeps that name for itself', key, key
        )


def reserve(name: str) -> str:
    """Keep attributes from having the name of a ``Meta`` row, which is a column of the analyzer too.

    Returns:
        The name to use for the row.
    """
    if name in _COLUMNS - {"hostname", "ppid", "dpRankId"}:
        return f"{name}_"
    _own.reserve(name)
    _users.reserve(name)
    return name


def is_reserved(name: str) -> bool:
    """Whether a user's attribute of this name gets ``_`` appended in native files."""
    return name in _COLUMNS or name in _MEANINGS or name.endswith(("=", "+"))


def row_name(name: str) -> str:
    """The native name of a span that is not the package's own: ``_`` is appended to one that the analyzer relies on."""
    return f"{name}_" if name in _BATCHES else name


def key_texts(keys: Sequence[str]) -> tuple[str, ...]:
    """JSON texts of attribute names of users, for ``encode_values``."""
    return tuple([_users[key] for key in keys])


def encode_args(pairs: Iterable[tuple[str, Any]], span: bool, *, user: bool = False) -> str:
    """The ``args`` of a native row.

    Attributes that are None, NaN or infinite are left out; what JSON has no form for becomes its text, cut at 256
    characters.

    Args:
        pairs: names and values, in order.
        span: a span (``"type": 2`` comes first) or an event (``"type": 0`` comes last).
        user: the names are a user's: those with a meaning for the analyzer (``status``, ``batch_size``, ``x=`` ...)
            get ``_`` appended; otherwise only those that end its run (``name``, ``event`` ...) do.
    """
    names = _users if user else _own
    keys: list[str] = []
    values: list[Any] = []
    for key, value in pairs:
        keys.append(names[key])
        values.append(value)
    return encode_values(keys, values, span)


def encode_values(texts: Sequence[str], values: Iterable[Any], span: bool) -> str:
    """``encode_args`` with names from ``key_texts``."""
    parts = ['"type": 2'] if span else []
    for text, value in zip(texts, values, strict=False):
        kind = value.__class__
        if kind is str:
            parts.append(text + encode_basestring_ascii(value))
        elif kind is int and -_WORD < value < _WORD:
            parts.append(text + str(value))
        elif (encoded := _encode(value)) is not None:
            parts.append(text + encoded)
    if not span:
        parts.append('"type": 0')
    return f"{{{', '.join(parts)}}}"


def _encode(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    try:
        return _strict.encode(value)
    except Exception:  # noqa: BLE001 - values are anything, and so is what their methods raise
        return _strict.encode(_plain(value, _MAX_DEPTH))


_strict = json.JSONEncoder(allow_nan=False)


def _plain(value: Any, depth: int) -> Any:
    """A value that JSON can write: NaN in containers is null, unknown objects are their text."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth and isinstance(value, dict):
        return {_text(key): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, int) and -_WORD < value < _WORD:
        return int(value)
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)[:_MAX_TEXT]
    except Exception:  # noqa: BLE001 - __str__ of anything
        return f"<{type(value).__name__}>"
