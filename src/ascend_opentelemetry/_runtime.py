"""The pipeline of a process: sinks behind the recorder, from the first hook to the last flush."""

from __future__ import annotations

import atexit
import functools
import logging
import multiprocessing.util
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.trace import SpanContext

from ascend_opentelemetry._sources import Sources
from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, SERVICE_PROF_CONFIG_PATH
from ascend_opentelemetry.native import NativeSink, ProfileConfig, ProfileSession
from ascend_opentelemetry.recorder import RootSampler, Sink, Source, SourceWindow, recorder
from ascend_opentelemetry.recorder._peers import SERVICE_VARIABLE
from ascend_opentelemetry.status import ExporterStatus, Exporting, StatusSink, describe_native, mode_of
from ascend_opentelemetry.version import __version__

_logger = logging.getLogger(__name__)

#: Share of the engine steps that are traced when nothing else is said.
STEP_SAMPLE_RATIO = 0.01
#: Seconds that sources may take to end.
SOURCES_SECONDS = 2.0


class Runtime:
    """Starts and ends the pipeline once a process."""

    def __init__(self) -> None:
        self.started = False
        self._native: NativeSink | None = None
        self._trace_sinks: list[Sink] = []
        self._sampler: RootSampler | None = None
        self._scope_enabled: Callable[[str], bool] | None = None
        self._new_trace_id: Callable[[], int] | None = None
        #: Looks for somebody who takes spans.
        self.watch: Sink | None = None
        self._status = StatusSink(self._describe)
        self._exporters: list[ExporterStatus] = []
        #: Gives ``installed``, ``left_out`` and ``switched_off``: functions of vLLM, as ``module:qualname``.
        self.hooks: Callable[[], Mapping[str, list[str]]] | None = None
        #: Called by the drain's thread each time before a native window opens.
        self.before_window: Callable[[], None] | None = None
        self._sources = Sources(())
        #: This process if it is the first of its service.
        self._leader: int | None = None

    @property
    def has_traces(self) -> bool:
        """Whether somebody takes spans."""
        return bool(self._trace_sinks)

    def add_traces(
        self,
        sinks: list[Sink],
        sampler: RootSampler,
        *,
        scope_enabled: Callable[[str], bool] | None = None,
        new_trace_id: Callable[[], int] | None = None,
        exporters: Sequence[Exporting] = (),
    ) -> None:
        """Export spans, from now on.

        Args:
            sinks: that take them.
            sampler: decides about roots.
            scope_enabled: whether hooks whose instrumentation scope has this name give spans; None: all do.
            new_trace_id: makes the trace ids of roots; None: random ones.
            exporters: the ones among the sinks, or behind them, that export.
        """
        self._trace_sinks += sinks
        self._exporters = [ExporterStatus(exporter) for exporter in exporters]
        self._sampler = sampler
        self._scope_enabled = scope_enabled
        self._new_trace_id = new_trace_id
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
        self._status = StatusSink(self._describe)
        if SERVICE_VARIABLE not in os.environ:
            self._leader = os.getpid()
        self._sources = Sources(_make_sources())
        self._sources.start(leader=self._leader == os.getpid())
        if path := os.environ.get(SERVICE_PROF_CONFIG_PATH):
            show_messages()
            self._native = NativeSink(path, on_change=self._on_change)
            for name, value in recorder.meta.items():
                self._native.set_meta(name, value)
            recorder.on_meta = self._native.set_meta
        self._start_sinks()
        atexit.register(self._exit)
        # a child of multiprocessing leaves by os._exit, which runs its finalizers and no atexit handlers
        self._finalize()
        multiprocessing.util.register_after_fork(self, Runtime._finalize)

    def _on_change(self, config: ProfileConfig | None) -> None:
        if config is None:
            self._sources.set_window(None)
        elif self.before_window is not None:
            self.before_window()
        recorder.set_native(config)
        if config is not None:
            folder = ProfileSession.join().date_folder(config.prof_dir)
            self._sources.set_window(SourceWindow(config, folder, time.time_ns()))

    def _start_sinks(self) -> None:
        sinks: list[Sink] = [self._native] if self._native is not None else []
        watching = [] if self.watch is None or self.has_traces else [self.watch]
        recorder.start([*sinks, *self._trace_sinks, *watching, self._sources, self._status])
        recorder.set_traces(
            self.has_traces,
            self._sampler,
            _step_ratio(),
            scope_enabled=self._scope_enabled,
            new_trace_id=self._new_trace_id,
        )

    def _describe(self, taken: int) -> dict[str, object]:
        """What the status file says of the pipeline."""
        return {
            "service": os.environ.get(SERVICE_VARIABLE),
            "mode": mode_of(bool(self._exporters), self.has_traces, self._native is not None),
            "exporters": [exporter.describe() for exporter in self._exporters],
            "hooks": self.hooks() if self.hooks is not None else None,
            "records": {"taken": taken, "dropped": recorder.dropped, "lost": recorder.lost},
            "sources": self._sources.describe(),
            "native": describe_native(self._native.state()) if self._native is not None else None,
        }

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
        """Flush and end the sinks, which are forgotten; hooks record no more."""
        if self.started:
            self.started = False
            self._sources.shutdown(SOURCES_SECONDS)  # their last records go the way of all others
            recorder.shutdown()
            self._trace_sinks, self._exporters, self.watch = [], [], None
            recorder.on_meta = None
            atexit.unregister(self._exit)


def _make_sources() -> list[Source]:
    """All sources; each finds out for itself whether it has anything to read here."""
    return []


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
    """Ask the sampler of an SDK ``TracerProvider`` about roots; what it cannot decide is not traced."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

    root = Context()
    kinds = {1: SpanKind.INTERNAL, 2: SpanKind.SERVER}
    warned = False

    def sampler(trace_id: int, name: str, kind: int, attributes: Any, parent: SpanContext | None) -> bool:
        nonlocal warned
        context = root if parent is None else set_span_in_context(NonRecordingSpan(parent), root)
        try:
            result = provider.sampler.should_sample(context, trace_id, name, kinds[kind], attributes, ())
            if result.attributes:
                attributes.update(result.attributes)
            return result.decision.is_sampled()
        except Exception as error:  # noqa: BLE001 - the program's class may do anything
            if not warned:
                warned = True
                _logger.warning(
                    "the sampler %s raised %s: %s; roots that it cannot decide about are not traced",
                    type(provider.sampler).__name__, type(error).__name__, error,
                )  # fmt: skip
            return False

    return sampler


def as_scope_switch(provider: Any) -> Callable[[str], bool]:
    """Ask the tracer configurator of an SDK ``TracerProvider``, once a scope, whether hooks with it give spans."""
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    @functools.cache
    def enabled(name: str) -> bool:
        return provider._apply_tracer_configurator(InstrumentationScope(name, __version__)).is_enabled

    return enabled


def as_trace_ids(provider: Any) -> Callable[[], int] | None:
    """What makes trace ids where the id generator of an SDK ``TracerProvider`` is not the SDK's own."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    generator = provider.id_generator
    if type(generator).generate_trace_id is RandomIdGenerator.generate_trace_id:
        return None
    return generator.generate_trace_id
