"""The profile window: open while the config file says so."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from ascend_opentelemetry.native._args import reserve
from ascend_opentelemetry.native._clock import WallClock
from ascend_opentelemetry.native._config import ProfileConfig
from ascend_opentelemetry.native._session import ProfileSession
from ascend_opentelemetry.native._watch import ConfigFile
from ascend_opentelemetry.native._writer import NativeWriter, storable
from ascend_opentelemetry.recorder._record import Record

_logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
#: The row that ``profiler_step_num`` counts, as in ``ms_service_profiler``.
STEP_ROW = "modelRunnerExec"


def _say(text: str) -> None:
    """Log a line in the form that users of ms_service_profiler look for."""
    _logger.info("[msservice_profiler] [PID:%d] [INFO] %s", os.getpid(), text)


class Window:
    """Config file, profile session and writer of one consumer; not thread-safe.

    A window closes in two steps, so that rows which ended before are still taken: ``poll`` sets ``closed_ns`` and
    calls ``on_change``, the next ``commit`` completes the file.

    Args:
        config_path: path of the config file.
        on_change: called with the configuration when the window opens and with None when it closes.
    """

    def __init__(self, config_path: str, on_change: Callable[[ProfileConfig | None], None]) -> None:
        self.session = ProfileSession.join()
        self.file = ConfigFile(config_path, lambda: self.session.is_owner)
        #: Configuration and writer of the open window.
        self.config: ProfileConfig | None = None
        self.writer: NativeWriter | None = None
        #: A row is taken when it starts and ends between the two, ns since 1970; see ``follow_clock``.
        self.opened_ns = 0
        self.closed_ns = sys.maxsize
        #: Lost rows by reason.
        self.dropped: dict[str, int] = {}
        self._meta: dict[str, str] = {}
        self._on_change = on_change
        self._enable: bool | None = None
        self._due = 0.0
        self._clock = WallClock()
        #: The last poll and the opening on the clock as it is now, and by how much that was set since the poll.
        self._polled_ns = self._opened_now_ns = self._stepped = 0
        self._deadline = float("inf")
        self._steps = 0
        self.poll()

    @property
    def meta(self) -> Mapping[str, str]:
        """Rows of ``Meta`` besides host name and parent pid."""
        return self._meta

    @property
    def is_open(self) -> bool:
        """Whether profiling is on."""
        return self.config is not None and self.closed_ns == sys.maxsize

    def set_meta(self, name: str, value: str) -> None:
        """Add a row to ``Meta`` of this and later windows; may be called from any thread."""
        self._meta[storable(reserve(name))] = storable(value)

    def follow_clock(self) -> None:
        """Widen the limits when the wall clock was set; call it before rows are compared with them.

        So no row is lost of either clock; one that began before the window opened may be taken. A clock that is set to
        and fro between two calls is not noticed.
        """
        step = self._clock.step()
        if step:
            self._stepped += step
            self._polled_ns += step
            self._opened_now_ns += step
            self.opened_ns = min(self.opened_ns, self._opened_now_ns)

    def poll(self) -> None:
        """Look at the config file and the time limit, at most every ``POLL_SECONDS``."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due += POLL_SECONDS  # not now + POLL_SECONDS: a timer of the same period would miss every other turn
        if self._due <= now:
            self._due = now + POLL_SECONDS
        self.follow_clock()
        now_ns = time.time_ns()
        config = self.file.poll()
        if config is not None:
            changed_ns = min(now_ns, max(self._polled_ns, self.file.changed_ns))
            if config.enable != self._enable:  # other fields count from the next opening on
                self._enable = config.enable
                _say(f"profile enable_: {str(config.enable).lower()}")
                if config.enable:
                    self._open(config, changed_ns)
                elif self.is_open:
                    self._close(changed_ns, "Profiler Disabled Successfully!")
        if now >= self._deadline and self.is_open:
            self._end_of_time(now_ns - int((now - self._deadline) * 1e9))
        self._polled_ns, self._stepped = now_ns, 0

    def _open(self, config: ProfileConfig, opened_ns: int) -> None:
        self._complete()
        self.config, self.closed_ns = config, sys.maxsize
        self._opened_now_ns = opened_ns
        self.opened_ns = opened_ns - max(0, self._stepped)
        self._deadline = time.monotonic() + config.timelimit if config.timelimit else float("inf")
        self._steps = 0
        self._make_writer(config)
        _say(f"prof path: {self.session.date_folder(config.prof_dir)}/")
        _say("Profiler Enabled Successfully!")
        self._on_change(config)

    def _make_writer(self, config: ProfileConfig) -> None:
        self.writer = NativeWriter(self.session.file(config.prof_dir), self._meta, self.dropped)

    def _close(self, closed_ns: int, text: str) -> None:
        self.closed_ns = closed_ns - min(0, self._stepped)  # rows wait that ended before the clock was set back
        self._on_change(None)
        _say(text)

    def _end_of_time(self, closed_ns: int) -> None:
        assert self.config is not None  # noqa: S101 - is_open says so
        limit = self.config.timelimit
        self._close(closed_ns, f"Profiler Timelimit {limit} Seconds Is Reached, Profiler Disabled Successfully!")
        if self.session.is_owner:
            self.file.disable()

    def count_steps(self, records: Sequence[Record]) -> None:
        """Close the window at the end of the last step that ``profiler_step_num`` allows; call it before rows are made."""
        config = self.config
        if config is None or config.profiler_step_num < 1 or not self.is_open:
            return
        for record_type, start, end, *_ in records:
            if record_type.name == STEP_ROW and record_type.native and start >= self.opened_ns:
                self._steps += config.selects(record_type.domain, record_type.level)
                if self._steps == config.profiler_step_num:
                    _say(f"Profiler Step Limit Reached! Current={self._steps}, Target={self._steps}. Stopping...")
                    self._close(end, "Profiler Disabled Successfully!")
                    self.file.disable()  # whichever process gets there first: others know nothing of its steps
                    return

    def _complete(self) -> None:
        if self.writer is not None:
            self.writer.close()
            if self.writer.lost:
                _say(f"{self.writer.path}: {self.writer.lost} rows were dropped")
        self.config = self.writer = None

    def commit(self) -> bool:
        """Write the rows; complete the file when the window has closed.

        Returns:
            False while rows wait because a reader locks the file.
        """
        if self.writer is None:
            return True
        if not self.is_open:
            self._complete()
            return True
        return self.writer.commit()

    def shutdown(self) -> None:
        """Complete the file; the window does not open again."""
        self._complete()
        self._due = float("inf")

    def after_fork(self) -> None:
        """In the child: leave the parent's file alone; an open window goes on in a file of its own."""
        if self.writer is not None:
            self.writer.abandon()
        self.dropped.clear()
        self._steps = 0
        if self.is_open and self.config is not None:
            self._make_writer(self.config)
        else:
            self.config = self.writer = None
