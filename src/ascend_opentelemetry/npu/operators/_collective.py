"""Series of collective communication."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ascend_opentelemetry.npu.operators._names import collective, label


class Collective(NamedTuple):
    """A series: ``group`` is a hash, since the recorded name holds addresses; each but the first may be empty."""

    operation: str
    data_type: str
    group: str
    device: str

    @classmethod
    def of(cls, raw: tuple[str, str, str, str]) -> Collective:
        """Of name, data type, group and device."""
        name, data_type, group, device = raw
        return cls(collective(name), label(data_type), _hash(group), device)


class Transfer(NamedTuple):
    """A series of bytes over a kind of link."""

    operation: str
    link: str
    group: str

    @classmethod
    def of(cls, raw: tuple[str, str, str]) -> Transfer:
        """Of name, link and group."""
        return cls(collective(raw[0]), raw[1], _hash(raw[2]))


def _hash(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()[:8] if group else ""
