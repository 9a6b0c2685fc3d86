"""The span that a hook makes current, and the search for its parent."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from contextvars import Token
from random import Random
from time import time_ns
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace.propagation import _SPAN_KEY

from ascend_opentelemetry.recorder._record import (
    STATUS_ERROR,
    STATUS_OK,
    STATUS_UNSET,
    RecordType,
    SpanEvent,
    SpanExtra,
    SpanIds,
    SpanLink,
)

SAMPLED = 1

_runtime = context_api._RUNTIME_CONTEXT
if type(_runtime) is ContextVarsRuntimeContext:
    # the context variable itself: half the cost of a hook is calls that only pass on to it
    get_current = _runtime._current_context.get
    attach = _runtime._current_context.set
    detach = _runtime._current_context.reset
else:
    get_current, attach, detach = context_api.get_current, context_api.attach, context_api.detach

random = Random()  # noqa: S311 - span ids need to differ, not to be secret
getrandbits = random.getrandbits

_new_span = object.__new__
_set_item = dict.__setitem__  # ``Context`` forbids its own

# later versions than 00 may have more parts
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|\Z)")

#: Decides once a root: ``trace_id, name, kind, attributes, remote parent or None`` -> recorded. It may add attributes.
RootSampler = Callable[[int, str, int, dict[str, Any], SpanContext | None], bool]


class RecordSpan(Span):
    """An open span of a hook; what ``trace.get_current_span()`` gives inside of it.

    SDK spans started while it is current become its children, and what a program sets on it lands in the record.
    """

    __slots__ = ("flags", "mono", "parent_id", "span_id", "start", "token", "trace_id")

    #: Whether anything was set on it: ``extra`` gives something.
    touched = False
    # rarely set: defaults of the class spare four stores a span
    _attributes: dict[str, Any] | None = None
    _events: list[SpanEvent] | None = None
    _links: list[SpanLink] | None = None
    _status = STATUS_UNSET
    _message = ""

    def __init__(self, trace_id: int, span_id: int, parent_id: int, flags: int) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.flags = flags

    @property
    def ids(self) -> SpanIds:
        return self.trace_id, self.span_id, self.parent_id, self.flags

    def extra(self) -> SpanExtra | None:
        """What was set on the span while it was current; None if nothing was."""
        if not self.touched:
            return None
        return SpanExtra(
            self._status,
            self._message,
            events=self._events or (),
            links=self._links or (),
            attributes=tuple(self._attributes.items()) if self._attributes else (),
        )

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: the hook ends its span when the function returns."""

    def get_span_context(self) -> SpanContext:
        return SpanContext(self.trace_id, self.span_id, is_remote=False, trace_flags=TraceFlags(self.flags))

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self.flags & SAMPLED:
            self.touched = True
            if self._attributes is None:
                self._attributes = {}
            self._attributes.update(_pairs(attributes))

    def set_attribute(self, key: str, value: Any) -> None:
        self.set_attributes({key: value})

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        if self.flags & SAMPLED:
            self.touched = True
            if self._events is None:
                self._events = []
            self._events.append((name, timestamp or time_ns(), _pairs(attributes)))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        if self.flags & SAMPLED and context.is_valid:
            self.touched = True
            if self._links is None:
                self._links = []
            self._links.append((context.trace_id, context.span_id, _pairs(attributes)))

    def update_name(self, name: str) -> None:
        """Do nothing: the symbols file names the span."""

    def is_recording(self) -> bool:
        return bool(self.flags & SAMPLED)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status as the SDK does: OK is final, UNSET changes nothing, only ERROR has a description."""
        code = status.status_code if isinstance(status, Status) else status
        text = status.description if isinstance(status, Status) else description
        if not self.flags & SAMPLED or self._status == STATUS_OK:
            return
        if code is StatusCode.UNSET:
            return
        self.touched = True
        if code is StatusCode.OK:
            self._status, self._message = STATUS_OK, ""
        else:
            self._status, self._message = STATUS_ERROR, text or ""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: ARG002 - part of the interface, deprecated there
    ) -> None:
        self.add_event("exception", {**exception_attributes(exception), **(attributes or {})}, timestamp)

    def failed(self, error: BaseException) -> None:
        """Take over an exception that left the function."""
        self.record_exception(error)
        self.set_status(StatusCode.ERROR, f"{type(error).__name__}: {_message(error)}")


def _pairs(attributes: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    """A copy that the program cannot change."""
    if not attributes:
        return ()
    return tuple([(key, tuple(value) if type(value) is list else value) for key, value in attributes.items()])


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the program's class may do anything
        return "<exception str() failed>"


def exception_attributes(error: BaseException) -> dict[str, str]:
    """Attributes of an ``exception`` event, as the OTel conventions name them."""
    return {
        "exception.type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        "exception.message": _message(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
    }


def make_current(span: Span, context: Context | None = None) -> Token[Context]:
    """Attach ``span`` to ``context`` (the current one); detach what is returned."""
    inner = Context(get_current() if context is None else context)
    _set_item(inner, _SPAN_KEY, span)
    return attach(inner)


def is_suppressed() -> bool:
    """Whether the program wants no telemetry of what it does now: ``suppress_instrumentation()``."""
    return bool(get_current().get(_SUPPRESS_INSTRUMENTATION_KEY))


def open_span(record_type: RecordType, root: Callable[[RecordType], RecordSpan]) -> RecordSpan | None:
    """Start a span below the current one and make it current.

    Args:
        record_type: of the record that will be made.
        root: gives the span when there is no parent.

    Returns:
        The span, with ``token`` set; None below a root that is not sampled and where instrumentation is suppressed.
    """
    context = get_current()
    if _SUPPRESS_INSTRUMENTATION_KEY in context and context[_SUPPRESS_INSTRUMENTATION_KEY]:  # noqa: RUF019 - faster
        return None
    parent: Any = context.get(_SPAN_KEY)
    if parent.__class__ is RecordSpan:
        if not parent.flags:
            return None
        span: RecordSpan = _new_span(RecordSpan)  # without the call of __init__, which takes as long as all the rest
        span.trace_id = parent.trace_id
        span.span_id = getrandbits(64)
        span.parent_id = parent.span_id
        span.flags = parent.flags
    elif parent is None or not (foreign := parent.get_span_context()).is_valid:
        span = root(record_type)
    elif foreign.trace_flags & SAMPLED:
        span = RecordSpan(foreign.trace_id, getrandbits(64), foreign.span_id, int(foreign.trace_flags))
    else:
        return None
    inner = Context(context)
    _set_item(inner, _SPAN_KEY, span)
    span.token = attach(inner)
    return span


def child(ids: SpanIds | None) -> RecordSpan:
    """A span below the one with ``ids``, not made current; for None an unsampled root.

    Its ids are valid all the same: SDK spans below it see a parent that is not sampled and are not sampled either.
    """
    if ids is None:
        return RecordSpan(getrandbits(128), getrandbits(64), 0, 0)
    return RecordSpan(ids[0], getrandbits(64), ids[1], ids[3])


def parse_traceparent(value: str | None) -> tuple[int, int, int] | None:
    """``trace_id, span_id, flags`` of a W3C ``traceparent``; None if it is not one."""
    found = _TRACEPARENT.match(value) if value is not None else None
    if found is None:
        return None
    ids = int(found[1], 16), int(found[2], 16), int(found[3], 16)
    return ids if ids[0] and ids[1] else None


def format_traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """The W3C ``traceparent`` of a span."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags & 0xFF:02x}"


def remote_context(trace_id: int, span_id: int, flags: int) -> Context:
    """A context whose current span is the remote one given."""
    span_context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(span_context), Context())


__all__ = [
    "SAMPLED",
    "RecordSpan",
    "RootSampler",
    "child",
    "detach",
    "exception_attributes",
    "format_traceparent",
    "getrandbits",
    "is_suppressed",
    "make_current",
    "open_span",
    "parse_traceparent",
    "random",
    "remote_context",
]
