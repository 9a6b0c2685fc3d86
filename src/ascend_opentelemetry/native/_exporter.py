"""OpenTelemetry SDK spans as rows of the native file."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ascend_opentelemetry.native._args import encode_args, row_name
from ascend_opentelemetry.native._config import ProfileConfig
from ascend_opentelemetry.native._upstream import choose
from ascend_opentelemetry.native._window import Window
from ascend_opentelemetry.native._writer import storable
from ascend_opentelemetry.recorder._record import LEVEL_INFO

#: Scope of the package's own spans, and what those of a domain begin with.
_OWN = "ascend_opentelemetry"


class MsServiceProfilerSpanExporter(SpanExporter):
    """Writes each span as a row of ``ms_service_*.db`` while the file of ``SERVICE_PROF_CONFIG_PATH`` enables it.

    The domain is the instrumentation scope; rows have level INFO and the thread that exports. Spans of the package's own
    scopes are left out: with that variable set their hooks write rows, into the same file, as the symbols file says.
    Does nothing when the variable is not set, or native files are left to others (``OTEL_PYTHON_VLLM_NATIVE``).
    """

    def __init__(self) -> None:
        path = choose(os.environ).path
        self._window = Window(path, _ignore) if path else None
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        window = self._own_window()
        if window is None:
            return SpanExportResult.SUCCESS
        with self._lock:
            window.poll()
            writer = window.writer
            if writer is None:
                return SpanExportResult.SUCCESS
            window.follow_clock()
            for span in spans:
                self._add(window, span)
            window.commit()
            return SpanExportResult.FAILURE if writer.failed else SpanExportResult.SUCCESS

    def _own_window(self) -> Window | None:
        """The window of this process: a forked child leaves the file and the lock of its parent."""
        if self._window is not None and self._pid != os.getpid():
            self._start()
            self._window.after_fork()
        return self._window

    def _add(self, window: Window, span: ReadableSpan) -> None:
        config, writer, start, end = window.config, window.writer, span.start_time, span.end_time
        if config is None or writer is None or start is None or end is None:
            return
        scope = "" if span.instrumentation_scope is None else span.instrumentation_scope.name
        if scope == _OWN or scope.startswith(f"{_OWN}."):
            return
        domain = storable(scope)
        end = max(start, end)  # the SDK takes both from the wall clock, which may be set back
        if start < window.opened_ns or end > window.closed_ns or not config.selects(domain, LEVEL_INFO):
            return
        tid = threading.get_native_id()
        if tid not in writer.threads:
            writer.add_thread(tid, domain)
        args = encode_args((span.attributes or {}).items(), True, user=True)
        writer.rows.append((start, end - start, row_name(storable(span.name)), tid, domain, args, end, tid))

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
        window = self._own_window()
        if window is None:
            return True
        with self._lock:
            return window.commit()

    def shutdown(self) -> None:
        window = self._own_window()
        if window is not None:
            with self._lock:
                window.shutdown()


def _ignore(config: ProfileConfig | None) -> None:
    del config
