"""A recording that a profiler of the service has made, as an ``npu.profiling.session`` event and a line of the log."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import NamedTuple

from ascend_opentelemetry.npu._events import emit
from ascend_opentelemetry.recorder import SAMPLED
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv.events import NPU_PROFILING_SESSION

_logger = logging.getLogger(__name__)

_NS = 1e9


class ProfilingSession(NamedTuple):
    """One run of a profiler.

    Attributes:
        profiler: ``aclprof``, ``torch`` or ``torch_npu``.
        folder: absolute path of the folder that holds the recording.
        started_ns: when it began to record, ns since 1970.
        ended_ns: when it ended.
        level: of detail; empty where the profiler has none.
        trace_id: in the metadata of the recording; 0 for none.
        operators: number of operators; None where they are not known yet.
    """

    profiler: str
    folder: Path
    started_ns: int
    ended_ns: int
    level: str = ""
    trace_id: int = 0
    operators: int | None = None


def tell(session: ProfilingSession) -> None:
    """Emit the event, and log where the recording is."""
    seconds = (session.ended_ns - session.started_ns) / _NS
    attributes: dict[str, str | int | float] = {
        keys.NPU_PROFILER_NAME: session.profiler,
        keys.NPU_RECORDING_FOLDER: str(session.folder),
        keys.NPU_RECORDING_DURATION: seconds,
    }
    if session.level:
        attributes[keys.NPU_PROFILER_LEVEL] = session.level
    if session.operators is not None:
        attributes[keys.NPU_RECORDING_OPERATORS] = session.operators
    ids = (session.trace_id, 0, 0, SAMPLED) if session.trace_id else None
    emit(NPU_PROFILING_SESSION, session.started_ns, attributes, ids=ids)
    # what PyTorch records is in OTel already
    command = "top" if session.profiler == "torch" else "import"
    folder = shlex.quote(str(session.folder))
    _logger.info("%s has recorded %.1f s: ascend-otel npu %s %s", session.profiler, seconds, command, folder)
