"""Names of operators and collectives as few, stable words."""

from __future__ import annotations

import re
from functools import lru_cache

#: What profilers write where the type of an operator is not recorded, as at Level0.
_UNKNOWN = frozenset({"", "N/A", "NA", "NONE", "NULL", "UNKNOWN"})
_MAX_LENGTH = 128

_COLLECTIVE = re.compile(r"^hcom_([A-Za-z]+)")
#: ``MatMulV3_<hash>_<n>_mix_aic``: an operator of a compiled graph.
_GRAPH_HASH = re.compile(r"_[0-9a-f]{16,}(?:_.*)?$")
_TRAILING_NUMBERS = re.compile(r"(?:_\d+)+$")
_COMMUNICATION_CORES = frozenset({"HCCL", "COMMUNICATION"})

#: Bytes of an element (ENUM_HCCL_DATA_TYPE).
_ELEMENT_BYTES = {
    "INT8": 1, "UINT8": 1, "HIF8": 1, "FP8E4M3": 1, "FP8E5M2": 1, "FP8E8M0": 1, "INT16": 2, "UINT16": 2, "FP16": 2,
    "BFP16": 2, "BF16": 2, "INT32": 4, "UINT32": 4, "FP32": 4, "INT64": 8, "UINT64": 8, "FP64": 8, "INT128": 16,
}  # fmt: skip
#: More than any memory has; sums of such counts still fit into 64 bits.
_MAX_ELEMENTS = 2**45


def printable(text: str) -> str:
    """The text with escapes for what would steer a terminal, break a line or is no Unicode."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


@lru_cache(maxsize=4096)
def label(word: str) -> str:
    """A recorded word as the value of an attribute."""
    return printable(word[:_MAX_LENGTH])


def is_unknown(word: str | None) -> bool:
    """Whether a cell says that nothing was recorded."""
    return word is None or word.upper() in _UNKNOWN


@lru_cache(maxsize=4096)
def is_communication(name: str, core: str) -> bool:
    """Whether a row of a list of kernels is a collective: its core says so, or its name."""
    return core.upper() in _COMMUNICATION_CORES or name.startswith("hcom_")


@lru_cache(maxsize=4096)
def operator_type(name: str, given: str | None) -> str:
    """The type of an operator.

    Args:
        name: as recorded: ``aclnnMm_MatMulCommon_MatMulV2``, ``MatMulV3_<hash>_3``, ``trans_TransData_12``.
        given: the recorded type, which wins where there is one.
    """
    if given is not None and not is_unknown(given):
        return label(given)
    short = _GRAPH_HASH.sub("", name.rpartition("/")[2])
    short = _TRAILING_NUMBERS.sub("", short)
    if short.startswith("aclnn"):
        short = short.rpartition("_")[2].removeprefix("aclnn")
    elif short.endswith("_MemSet"):
        short = "MemSet"
    else:
        short = short.removeprefix("trans_")
    return label(short or name) or "N/A"


@lru_cache(maxsize=4096)
def collective(name: str) -> str:
    """``allReduce`` of ``hcom_allReduce__210_0_1`` and of ``hcom_allReduce_``; other names without their numbers."""
    found = _COLLECTIVE.match(name)
    return label(found[1] if found else _TRAILING_NUMBERS.sub("", name.partition("@")[0])) or "N/A"


def payload(data_type: str, count: int) -> int:
    """Bytes of so many elements; 0 for a data type or a count that is not known, or cannot be."""
    return _ELEMENT_BYTES.get(data_type, 0) * count if 0 < count < _MAX_ELEMENTS else 0
