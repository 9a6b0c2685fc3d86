"""The pipeline of a process: sinks behind the recorder, from the first hook to the last flush."""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ascend_opentelemetry._measuring import Measuring
from ascend_opentelemetry._sources import HeldBack, Sources
from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, SERVICE_PROF_CONFIG_PATH
from ascend_opentelemetry.host import HostSource
from ascend_opentelemetry.metrics import MetricsSink
from ascend_opentelemetry.native import NativeSink, ProfileConfig, ProfileSession, filter_problem
from ascend_opentelemetry.native import choose as choose_native
from ascend_opentelemetry.npu.aclprof._source import AclprofSource
from ascend_opentelemetry.npu.dcmi._source import DcmiSource
from ascend_opentelemetry.npu.mspti._source import MsptiSource
from ascend_opentelemetry.npu.torch._allocator import AllocatorSource
from ascend_opentelemetry.npu.torch._source import TorchSource
from ascend_opentelemetry.recorder import RootSampler, Sink, Source, SourceWindow, meters, recorder
from ascend_opentelemetry.recorder._peers import SERVICE_VARIABLE
from ascend_opentelemetry.status import ExporterStatus, Exporting, StatusSink, describe_native, mode_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

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
        #: Gives the domains that native rows can have; None before vLLM is hooked.
        self.domains: Callable[[], Collection[str]] | None = None
        self._filter_problems: set[str] = set()
        self._sources = Sources(())
        self.measuring = Measuring()
        self._metrics: MetricsSink | None = None
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

    def set_meter_provider(self, provider: MeterProvider | None) -> None:
        """Measure by the instruments of this provider, or of the global one (None)."""
        self.measuring.given = meters.provider = provider
        if self._metrics is not None:
            self._metrics.look()

    def start(self) -> None:
        """Start the drain; further calls do nothing."""
        if self.started:
            return
        self.started = True
        self._native = None
        self._status = StatusSink(self._describe)
        if ProfileSession.join().is_owner:
            self._leader = os.getpid()
        self._sources = Sources(_make_sources())
        choice = choose_native(os.environ)
        if os.environ.get(SERVICE_PROF_CONFIG_PATH):
            show_messages()
        if self._leader == os.getpid():
            for message in choice.messages:
                _logger.warning("%s", message)
        if choice.path:
            self._native = NativeSink(choice.path, on_change=self._on_change)
            for name, value in recorder.meta.items():
                self._native.set_meta(name, value)
            recorder.on_meta = self._native.set_meta
        self._metrics = self.measuring.make_sink(self._lost)
        self._metrics.look()
        self._start_sinks()
        self._sources.start(leader=self._leader == os.getpid())
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
            self.check_filter()

    def check_filter(self) -> None:
        """Warn, once a service, of a ``domain`` filter of the open window that selects nothing."""
        window = recorder.native
        if window is None or self.domains is None or self._leader != os.getpid():
            return
        problem = filter_problem(window.domain, self.domains())
        if problem is not None and problem not in self._filter_problems:
            self._filter_problems.add(problem)
            _logger.warning("%s: %s", os.environ.get(SERVICE_PROF_CONFIG_PATH), problem)

    def _start_sinks(self) -> None:
        sinks: list[Sink] = [self._native] if self._native is not None else []
        watching = [] if self.watch is None or self.has_traces else [self.watch]
        metrics = [self._metrics] if self._metrics is not None else []
        held_back = HeldBack(self._sources)
        recorder.start([held_back, *sinks, *self._trace_sinks, *watching, *metrics, self._sources, self._status])
        recorder.set_traces(
            self.has_traces,
            self._sampler,
            _step_ratio(warn=self._leader == os.getpid()),
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
            "metrics": self.measuring.describe(),
            "sources": self._sources.describe(),
            "native": describe_native(self._native.state()) if self._native is not None else None,
        }

    def _lost(self) -> dict[str, dict[str, int]]:
        """Lost records by component and reason."""
        lost = {"recorder": {"queue_full": recorder.dropped}}
        if self._native is not None:
            lost["native_sink"] = self._native.state().dropped
        for exporter in self._exporters:
            reasons = lost.setdefault("span_exporter", {})
            for reason, spans in list(exporter.sink.dropped.items()):  # the drain counts on
                reasons[reason] = reasons.get(reason, 0) + spans
        for sink, records in list(recorder.lost.items()):
            lost.setdefault("sink", {})[sink] = records
        return lost

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
        self.measuring.shutdown()

    def shutdown(self) -> None:
        """Flush and end the sinks, which are forgotten; hooks record no more."""
        if self.started:
            self.started = False
            self._sources.shutdown(SOURCES_SECONDS)  # their last records go the way of all others
            recorder.shutdown()
            self._trace_sinks, self._exporters, self.watch, self._metrics = [], [], None, None
            recorder.on_meta = None
            atexit.unregister(self._exit)

    def silence(self) -> None:
        """After ``shutdown``, in a process that goes on: its metrics end too."""
        self._sources.silence()


def _make_sources() -> list[Source]:
    """All sources; each finds out for itself whether it has anything to read here."""
    return [HostSource(), DcmiSource(), AllocatorSource(), AclprofSource(), MsptiSource(), TorchSource()]


def show_messages() -> None:
    """Print what users of the native files look for (``Profiler Enabled Successfully!``), unless they set up logging."""
    logger = logging.getLogger("ascend_opentelemetry")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s", "%m-%d %H:%M:%S"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _step_ratio(*, warn: bool) -> float:
    text = os.environ.get(OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, "")
    try:
        ratio = float(text or STEP_SAMPLE_RATIO)
    except ValueError:
        ratio = -1.0
    if 0 <= ratio <= 1:
        return ratio
    if warn:
        _logger.warning(
            "%s=%r is no number from 0 to 1: %s is used", OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, text, STEP_SAMPLE_RATIO
        )
    return STEP_SAMPLE_RATIO


runtime = Runtime()
