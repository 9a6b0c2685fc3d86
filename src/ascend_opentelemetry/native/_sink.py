"""The sink that turns records into rows of the native file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ascend_opentelemetry.native._args import encode_values, key_texts
from ascend_opentelemetry.native._config import ProfileConfig
from ascend_opentelemetry.native._threads import ThreadIds
from ascend_opentelemetry.native._window import Window
from ascend_opentelemetry.recorder._record import Record, RecordType

_logger = logging.getLogger(__name__)

#: Rows that are written without waiting for the end of the round.
_MANY_ROWS = 8192


class NativeState(NamedTuple):
    """What a sink does now: paths, whether profiling is on, rows written since it was turned on, rows lost."""

    config_path: Path
    enabled: bool
    file: Path | None
    written: int
    dropped: dict[str, int]


class NativeSink:
    """Writes ``ms_service_*.db`` while the config file says so; a ``recorder`` sink.

    The config file is read at once, and again in ``commit``, at most every 100 ms.

    Args:
        config_path: value of ``SERVICE_PROF_CONFIG_PATH``.
        on_change: called with the configuration when profiling is turned on, with None when it is turned off; in the
            constructor already when it is on from the start.
        thread_ids: from ``threading.get_ident()`` to the Linux thread id.
    """

    def __init__(
        self,
        config_path: str,
        *,
        on_change: Callable[[ProfileConfig | None], None],
        thread_ids: Callable[[int], int] | None = None,
    ) -> None:
        self._threads = ThreadIds()
        self._thread_ids = thread_ids or self._threads
        #: JSON texts of the attribute names of a type; None for a type that is not selected.
        self._plans: dict[RecordType, tuple[str, ...] | None] = {}
        self._failed: set[RecordType] = set()
        self._on_change = on_change
        self._window = Window(config_path, self._changed)
        #: Lost rows by reason: ``disk``, ``locked``, ``unfit``, ``handler``.
        self.dropped = self._window.dropped

    def _changed(self, config: ProfileConfig | None) -> None:
        self._plans.clear()
        self._on_change(config)

    def _plan(self, record_type: RecordType) -> tuple[str, ...] | None:
        config = self._window.config
        selected = config is not None and record_type.native and config.selects(record_type.domain, record_type.level)
        plan = self._plans[record_type] = key_texts(record_type.keys) if selected else None
        return plan

    def write(self, records: Sequence[Record]) -> None:
        """Add the rows of records that started and ended while profiling was on."""
        window = self._window
        writer = window.writer
        if writer is None:
            return
        window.follow_clock()
        window.count_steps(records)
        opened, closed, plans, thread_ids = window.opened_ns, window.closed_ns, self._plans, self._thread_ids
        add, threads = writer.rows.append, writer.threads
        last, tid = -1, 0
        for record in records:
            record_type, start, end, ident, _, values, _ = record
            if start < opened or end > closed:
                continue
            try:
                plan = plans[record_type]
            except KeyError:
                plan = self._plan(record_type)
            if plan is None:
                continue
            if ident != last:
                last, tid = ident, thread_ids(ident)
            try:
                if record_type.rows is not None:
                    for timestamp, duration, name, domain, args in record_type.rows(record):
                        if tid not in threads:
                            writer.add_thread(tid, domain)
                        add((timestamp, duration, name, tid, domain, args, timestamp + duration, tid))
                    continue
                if not record_type.span:
                    end = start
                args = encode_values(plan, values or (), record_type.span)
            except Exception as error:  # noqa: BLE001 - a fault in a handler costs its rows only
                self._lose(record_type, error)
                continue
            domain = record_type.domain
            if tid not in threads:
                writer.add_thread(tid, domain)
            add((start, end - start, record_type.name, tid, domain, args, end, tid))
        if len(writer.rows) >= _MANY_ROWS:
            writer.commit()

    def _lose(self, record_type: RecordType, error: Exception) -> None:
        self.dropped["handler"] = self.dropped.get("handler", 0) + 1
        if record_type not in self._failed:
            self._failed.add(record_type)
            _logger.warning("%r: its native rows cannot be made: %r", record_type, error)

    def commit(self) -> None:
        """Write the rows, then look at the config file and the time limit."""
        window = self._window
        window.commit()
        if window.writer is not None:
            self._threads.refresh()
        window.poll()

    def set_meta(self, name: str, value: str) -> None:
        """Add a row to ``Meta``, for the analyzer a column of all rows (``dpRankId`` ...); from any thread."""
        self._window.set_meta(name, value)
        self._plans.clear()

    def flush(self, timeout: float) -> bool:
        """Write all rows; waits at most ``timeout`` seconds for a reader that locks the file."""
        deadline = time.monotonic() + timeout
        while not self._window.commit():
            if time.monotonic() >= deadline:
                return False
        return True

    def shutdown(self, timeout: float) -> None:
        """Write all rows and close the file."""
        self.flush(timeout)
        self._window.shutdown()

    def after_fork(self) -> None:
        """In the child: leave the parent's file alone and go on in one of its own."""
        self._threads.after_fork()
        self._window.after_fork()

    def state(self) -> NativeState:
        """What the sink does now."""
        window = self._window
        writer = window.writer
        return NativeState(
            window.file.path,
            window.is_open,
            writer.path if writer is not None else None,
            writer.written if writer is not None else 0,
            dict(self.dropped),
        )

    def request_flush(self) -> None:
        """Do nothing: every round is committed."""
