"""The default handler: a span around the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import CAPACITY, RecordSpan, RecordType, detach, open_span, recorder

#: ``args, kwargs, result`` -> the values of ``RecordType.keys``.
Values = Callable[[tuple[Any, ...], Any, Any], tuple[Any, ...]]

_root = recorder.root


class Timer:
    """Times a function and evaluates the attributes that the symbols file asks for.

    Args:
        record_type: of the records; its keys name what ``values`` gives.
        values: evaluated after the call.
        attach: make the span current during the call. Generators do it only while their body runs.
    """

    __slots__ = ("_attach", "output", "switch")

    def __init__(self, record_type: RecordType, values: Values | None = None, *, attach: bool = True) -> None:
        self.switch = record_type
        #: Type and values of the record that a call makes when it ends.
        self.output = record_type, values
        self._attach = attach

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RecordSpan | tuple[int, int]:  # noqa: ARG002
        if self.switch.traces_on:
            span = open_span(self.switch, _root)
            if span is not None:
                if not self._attach:
                    detach(span.token)
                span.start = time_ns()
                span.mono = monotonic_ns()
                return span
        return time_ns(), monotonic_ns()

    def exit(
        self,
        state: RecordSpan | tuple[int, int],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        mono = monotonic_ns()
        record_type, take = self.output
        extra = None
        if type(state) is RecordSpan:
            if self._attach:
                try:
                    detach(state.token)
                except ValueError:  # an abandoned coroutine, closed from elsewhere: its context is gone with its task
                    pass
            start = state.start
            end = start + mono - state.mono
            if state.flags:
                ids = (state.trace_id, state.span_id, state.parent_id, state.flags)
                if error is not None and not isinstance(error, GeneratorExit):
                    state.failed(error)
                if state.touched:
                    extra = state.extra()
            elif record_type.native_on:
                ids = None
            else:
                return
        elif record_type.native_on:
            start, started = state  # pyright: ignore[reportGeneralTypeIssues]
            end = start + mono - started
            ids = None
        else:
            return
        values = () if take is None else take(args, kwargs, result)
        if len(recorder.queue) < CAPACITY:
            recorder.append((record_type, start, end, get_ident(), ids, values, extra))
        else:
            recorder.drop()
