"""The standard settings of spans and of their batches."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from opentelemetry.sdk.trace import SpanLimits

_Item = TypeVar("_Item")

_logger = logging.getLogger(__name__)


def positive_int(name: str, default: int) -> int:
    """Return an environment variable as a number > 0; ``default`` if it is not set.

    Anything else gives ``default`` and one warning.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if value.isdecimal() and int(value) > 0:
        return int(value)
    _logger.warning("%s=%r is not a whole number above 0; %d is used.", name, value, default)
    return default


class Limits:
    """How much a span may hold: ``OTEL_SPAN_*_LIMIT`` and ``OTEL_ATTRIBUTE_*_LIMIT``, for records.

    As in the SDK, the last ones are kept; each method tells how many were dropped.

    Args:
        limits: of the provider; None: of the environment.

    Raises:
        ValueError: a variable that is no whole number from 0 on.
    """

    def __init__(self, limits: SpanLimits | None = None) -> None:
        limits = limits if limits is not None else SpanLimits()
        self._length = limits.max_attribute_length
        self._span_length = limits.max_span_attribute_length
        self._span_attributes = _most(limits.max_span_attributes)
        self._event_attributes = _most(limits.max_event_attributes)
        self._link_attributes = _most(limits.max_link_attributes)
        self._events = _most(limits.max_events)
        self._links = _most(limits.max_links)

    def touch(self, keys: Sequence[str]) -> bool:
        """Whether attributes with these keys may be too many or too long."""
        return self._span_length is not None or len(keys) > self._span_attributes

    def span_attributes(self, attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
        if self._span_length is None and len(attributes) <= self._span_attributes:
            return attributes, 0
        return _bounded(attributes, self._span_attributes, self._span_length)

    def event_attributes(self, pairs: Sequence[tuple[str, Any]]) -> tuple[Mapping[str, Any], int]:
        if self._length is None and len(pairs) <= self._event_attributes:
            return dict(pairs), 0
        return _bounded(dict(pairs), self._event_attributes, self._length)

    def link_attributes(self, pairs: Sequence[tuple[str, Any]]) -> tuple[Mapping[str, Any], int]:
        if self._length is None and len(pairs) <= self._link_attributes:
            return dict(pairs), 0
        return _bounded(dict(pairs), self._link_attributes, self._length)

    def events(self, events: Sequence[_Item]) -> tuple[Sequence[_Item], int]:
        return (events, 0) if len(events) <= self._events else _last(events, self._events)

    def links(self, links: Sequence[_Item]) -> tuple[Sequence[_Item], int]:
        return (links, 0) if len(links) <= self._links else _last(links, self._links)


def _most(limit: int | None) -> int:
    return sys.maxsize if limit is None else limit


def _last(items: Sequence[_Item], most: int) -> tuple[Sequence[_Item], int]:
    dropped = len(items) - most
    return items[dropped:], dropped


def _bounded(attributes: Mapping[str, Any], most: int, length: int | None) -> tuple[Mapping[str, Any], int]:
    dropped = max(0, len(attributes) - most)
    if dropped:
        attributes = dict(list(attributes.items())[dropped:])
    if length is not None:
        attributes = {key: _cut(value, length) for key, value in attributes.items()}
    return attributes, dropped


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, Mapping):
        return {key: _cut(item, length) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_cut(item, length) for item in value]
    return value
