"""What each process says about itself: a small file a process, which ``ascend-otel doctor`` reads."""

from ascend_opentelemetry.status._describe import ExporterStatus, Exporting, describe_native, mode_of
from ascend_opentelemetry.status._folder import candidates, open_folder, remove_stale
from ascend_opentelemetry.status._process import is_alive, start_ticks
from ascend_opentelemetry.status._reader import read_all
from ascend_opentelemetry.status._sink import StatusSink
from ascend_opentelemetry.status._versions import installed_versions

__all__ = [
    "ExporterStatus",
    "Exporting",
    "StatusSink",
    "candidates",
    "describe_native",
    "installed_versions",
    "is_alive",
    "mode_of",
    "open_folder",
    "read_all",
    "remove_stale",
    "start_ticks",
]
