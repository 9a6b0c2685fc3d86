"""The chainable calls with which a program marks its own code."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from threading import get_ident
from time import monotonic_ns, time_ns
from types import TracebackType
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from ascend_opentelemetry.profiler._decorator import decorate
from ascend_opentelemetry.profiler._level import Level, as_level
from ascend_opentelemetry.profiler._types import otel_attributes, record_type, warn_once
from ascend_opentelemetry.profiler._values import copy_value, text
from ascend_opentelemetry.recorder import (
    RecordSpan,
    RecordType,
    SpanIds,
    detach,
    is_suppressed,
    make_current,
    open_span,
    recorder,
)

F = TypeVar("F", bound=Callable[..., Any])

_EVENT, _SPAN, _LINK = 0, 2, 3


class Profiler:
    """A span or an event in the making; every call returns the object itself and none ever raises.

    ``Profiler(Level.INFO).domain("Engine").res("req-1").event("httpReq")``;
    ``with Profiler(Level.INFO).domain("Execute").span_start("forward"): ...``. Native rows are those of
    ``ms_service_profiler``. A span is a child of the OTel span that is current at ``span_start``; only the block of
    ``with`` and a function with ``Profiler.span`` have it for their current span. An event is added to the object's own
    open span, else to the current span; where none records, it is a span of no length.

    Whether anything is recorded is decided here, once: what is switched on later is for the next object.

    Args:
        profiler_level: lowest native ``profiler_level`` that gives rows, a number or a name; OTel has no levels.
    """

    __slots__ = (
        "_attributes", "_domain", "_entered", "_level", "_mono", "_name", "_native", "_span", "_start", "_token",
        "_traces",
    )  # fmt: skip

    _attributes: dict[str, Any] | None

    def __init__(self, profiler_level: int | str = Level.INFO) -> None:
        self._attributes = None
        if recorder.on:
            self._level = level = as_level(profiler_level)
            window = recorder.native
            self._native = window is not None and window.profiler_level >= level
            self._traces = recorder.traces_on
            if self._native or self._traces:
                self._attributes = {}
                self._domain = ""
                self._name: str | None = None
                self._start = self._mono = 0
                self._span: RecordSpan | None = None
                self._token: Token[Context] | None = None
                self._entered = False

    @staticmethod
    def span(name: str, *, domain: str = "", level: int | str = Level.INFO) -> Callable[[F], F]:
        """Decorate a function or coroutine function: each call is a span.

        Args:
            name: of the span.
            domain: of the span.
            level: as of the class.
        """
        return decorate(lambda: Profiler(level).domain(domain).span_start(name))

    @property
    def enable(self) -> bool:
        """Whether something takes what this object records."""
        return self._attributes is not None

    def domain(self, domain: str) -> Profiler:
        """Set the native ``cat``, and the OTel scope ``ascend_opentelemetry.<domain>``."""
        if self._attributes is not None:
            self._domain = text(domain)
            window = recorder.native
            if window is not None and window.domain and self._domain not in window.domain:
                self._native = False
                if not self._traces:
                    self._attributes = None
        return self

    def attr(self, key: str, value: Any) -> Profiler:
        """Set an attribute; what JSON has no form for becomes its text."""
        if self._attributes is not None:
            self._attributes[key if key.__class__ is str else text(key)] = value
        return self

    def res(self, res: Any) -> Profiler:
        """Set ``rid``: the id of a request, a list of ids, or a list of maps with the key ``rid``."""
        return self if self._attributes is None else self.attr("rid", res)

    def metric(self, metric_name: str, metric_value: Any) -> Profiler:
        """Set a metric to a value."""
        return self if self._attributes is None else self.attr(f"{text(metric_name)}=", metric_value)

    def metric_inc(self, metric_name: str, metric_value: Any) -> Profiler:
        """Change a metric by a value."""
        return self if self._attributes is None else self.attr(f"{text(metric_name)}+", metric_value)

    def metric_scope(self, scope_name: str, scope_value: Any = 0) -> Profiler:
        """Say what the metrics of this object are of."""
        return self if self._attributes is None else self.attr(f"scope#{text(scope_name)}", scope_value)

    def metric_scope_as_req_id(self) -> Profiler:
        """Say that the metrics of this object are of its request."""
        return self if self._attributes is None else self.attr("scope#", "req")

    def event(self, event_name: str) -> Profiler:
        """Record that something happened now."""
        return self if self._attributes is None else self._mark(event_name, _EVENT)

    def launch(self) -> Profiler:
        """Record an event called ``Launch``."""
        return self if self._attributes is None else self._mark("Launch", _EVENT)

    def link(self, from_rid: Any, to_rid: Any) -> Profiler:
        """Record, in place of all attributes set so far, that two request ids are of one request."""
        if self._attributes is not None:
            self._attributes.clear()
            self._attributes.update({"type": _LINK, "from": from_rid, "to": to_rid})
            self._mark("Link", _LINK)
        return self

    def add_meta_info(self, meta_key: str, meta_data: Any) -> Profiler:
        """Note a fact about the process: a row of the native ``Meta`` table, with the value as text."""
        if self._attributes is not None:
            try:
                recorder.set_meta(text(meta_key), text(meta_data) if meta_data is not None else "None")
            except Exception as error:  # noqa: BLE001 - telemetry never raises into the program
                _failed(error)
        return self

    def span_start(self, span_name: str) -> Profiler:
        """Start a span; what is set until ``span_end`` belongs to it."""
        if self._attributes is not None:
            try:
                self._attributes["type"] = _SPAN
                name = text(span_name)
                if self._traces and self._span is None:
                    self._open(name)
                self._name = name
                self._start = time_ns()
                self._mono = monotonic_ns()
            except Exception as error:  # noqa: BLE001
                _failed(error)
        return self

    def span_end(self) -> Profiler:
        """End the span, on whatever thread; without one, nothing happens."""
        if self._attributes is not None and self._name is not None:
            try:
                self._end()
            except Exception as error:  # noqa: BLE001
                _failed(error)
        return self

    def __enter__(self) -> Profiler:
        if self._attributes is not None:
            self._entered = True
            self._attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._attributes is None:
            return
        self._entered = False
        if error is not None:
            self._fail(error)
        self.span_end()
        self._detach()

    def _open(self, name: str) -> None:
        found = record_type(self._domain, name, self._level)
        if found is not None and found.traces_on:
            self._span = span = open_span(found, recorder.root)
            if span is not None:
                detach(span.token)
                if self._entered:
                    self._attach()

    def _attach(self) -> None:
        if self._span is not None and self._token is None:
            self._token = make_current(self._span)

    def _detach(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                detach(token)
            except ValueError:  # a coroutine closed from elsewhere: its context is gone with its task
                pass

    def _fail(self, error: BaseException) -> None:
        """Mark the span as failed by an exception; closing a generator is no failure."""
        if self._span is not None and not isinstance(error, GeneratorExit):
            try:
                self._span.failed(error)
            except Exception as failure:  # noqa: BLE001
                _failed(failure)

    def _end(self) -> None:
        end = self._start + monotonic_ns() - self._mono
        name, self._name = self._name or "", None
        span, self._span = self._span, None
        if self._token is not None and get_current_span() is span:
            self._detach()
        ids = extra = None
        if span is not None and span.flags:
            ids, extra = span.ids, span.extra()
        found = record_type(self._domain, name, self._level)
        if found is not None and (ids is not None or (self._native and found.native_on)):
            values = name, self._copy(_SPAN)
            recorder.emit((found, self._start, end, get_ident(), ids, values, extra))

    def _mark(self, event_name: str, kind: int) -> Profiler:
        try:
            now = time_ns()
            name = text(event_name)
            found = record_type(self._domain, name, self._level)
            if found is not None and found.on:
                attributes = self._copy(kind)
                ids = self._place(found, name, attributes, now) if self._traces and found.traces_on else None
                if ids is not None or (self._native and found.native_on):
                    recorder.emit((found, now, now, get_ident(), ids, (name, attributes), None))
        except Exception as error:  # noqa: BLE001
            _failed(error)
        return self

    def _place(self, found: RecordType, name: str, attributes: dict[str, Any], now: int) -> SpanIds | None:
        """Add the event to the span that it belongs to; the ids of its own span where there is none."""
        span = self._span if self._span is not None else get_current_span()
        if span.is_recording():
            if not is_suppressed():
                span.add_event(name, otel_attributes(attributes), now)
            return None
        if self._span is not None:
            return None
        own = open_span(found, recorder.root)
        if own is None:
            return None
        detach(own.token)
        return own.ids if own.flags else None

    def _copy(self, kind: int) -> dict[str, Any]:
        attributes = self._attributes or {}
        attributes["type"] = kind
        return {key: copy_value(value) for key, value in attributes.items()}


def _failed(error: Exception) -> None:
    warn_once(
        "failed", "Profiler: a call failed and is not recorded; further failures are not told: %s: %s",
        type(error).__name__, error,
    )  # fmt: skip
