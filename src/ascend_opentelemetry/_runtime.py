"""The pipeline of a process: sinks behind the recorder, from the first hook to the last flush."""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import signal
import threading
from typing import Any

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, SERVICE_PROF_CONFIG_PATH
from ascend_opentelemetry.native import NativeSink
from ascend_opentelemetry.recorder import RootSampler, Sink, recorder

_logger = logging.getLogger(__name__)

#: Share of the engine steps that are traced when nothing else is said.
STEP_SAMPLE_RATIO = 0.01


class Runtime:
    """Starts and ends the pipeline once a process."""

    def __init__(self) -> None:
        self.started = False
        self._native: NativeSink | None = None
        self._trace_sinks: list[Sink] = []
        self._sampler: RootSampler | None = None

    @property
    def has_traces(self) -> bool:
        """Whether somebody takes spans."""
        return bool(self._trace_sinks)

    def add_traces(self, sinks: list[Sink], sampler: RootSampler) -> None:
        """Export spans, from now on.

        Args:
            sinks: that take them.
            sampler: decides about roots.
        """
        self._trace_sinks += sinks
        self._sampler = sampler
        if self.started:
            self._start_sinks()
        else:
            self.start()

    def start(self) -> None:
        """Start the drain; further calls do nothing."""
        if self.started:
            return
        self.started = True
        self._native = None
        if path := os.environ.get(SERVICE_PROF_CONFIG_PATH):
            show_messages()
            self._native = NativeSink(path, on_change=recorder.set_native)
            for name, value in recorder.meta.items():
                self._native.set_meta(name, value)
            recorder.on_meta = self._native.set_meta
        self._start_sinks()
        atexit.register(self._exit)
        # a child of multiprocessing leaves by os._exit, which runs its finalizers and no atexit handlers
        self._finalize()
        multiprocessing.util.register_after_fork(self, Runtime._finalize)

    def _start_sinks(self) -> None:
        sinks: list[Sink] = [self._native] if self._native is not None else []
        recorder.start(sinks + self._trace_sinks)
        recorder.set_traces(self.has_traces, self._sampler, _step_ratio())

    def _finalize(self) -> None:
        multiprocessing.util.Finalize(None, self._exit, exitpriority=100)

    def _exit(self) -> None:
        """The last thing that a process does: whoever signals once more does not want to wait for the collector."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                # vLLM's handlers, which a closed event loop leaves behind, would swallow it
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
        self.shutdown()

    def shutdown(self) -> None:
        """Flush and end the sinks; hooks record no more."""
        if self.started:
            self.started = False
            recorder.shutdown()
            recorder.on_meta = None
            atexit.unregister(self._exit)


def show_messages() -> None:
    """Print what users of the native files look for (``Profiler Enabled Successfully!``), unless they set up logging."""
    logger = logging.getLogger("ascend_opentelemetry")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s", "%m-%d %H:%M:%S"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _step_ratio() -> float:
    text = os.environ.get(OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, "")
    try:
        ratio = float(text or STEP_SAMPLE_RATIO)
    except ValueError:
        ratio = -1.0
    if 0 <= ratio <= 1:
        return ratio
    _logger.warning(
        "%s=%r is no number from 0 to 1: %s is used", OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, text, STEP_SAMPLE_RATIO
    )
    return STEP_SAMPLE_RATIO


runtime = Runtime()


def as_sampler(provider: Any) -> RootSampler:
    """Ask the sampler of an SDK ``TracerProvider`` about roots."""
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    kinds = {1: SpanKind.INTERNAL, 2: SpanKind.SERVER}

    def sampler(trace_id: int, name: str, kind: int, attributes: Any) -> bool:
        result = provider.sampler.should_sample(Context(), trace_id, name, kinds[kind], attributes, ())
        return result.decision.is_sampled()

    return sampler
