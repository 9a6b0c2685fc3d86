"""Metrics in Prometheus' exposition format."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> dict[str, float]:
    """The samples: name with its labels, as printed there -> value."""
    found = map(_SAMPLE.fullmatch, text.splitlines())
    return {f"{sample[1]}{sample[2] or ''}": float(sample[3]) for sample in found if sample}


def total(text: str, name: str, labels: Mapping[str, str]) -> float:
    """Sum of the samples called ``name`` that have ``labels``; 0 when there is none."""
    found = 0.0
    for key, value in samples(text).items():
        sample, _, rest = key.partition("{")
        if sample == name and labels.items() <= dict(_LABEL.findall(rest)).items():
            found += value
    return found
