"""Native ``ms_service_profiler`` files: config JSON, profile session, SQLite writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.native._args import encode_args, is_reserved
from ascend_opentelemetry.native._config import (
    ConfigError,
    Problem,
    ProfileConfig,
    default_text,
    field_table,
    members,
    parse,
    specs,
)
from ascend_opentelemetry.native._domains import filter_problem
from ascend_opentelemetry.native._fields import LEVELS, Field, FieldError
from ascend_opentelemetry.native._session import ProfileSession
from ascend_opentelemetry.native._sink import NativeSink, NativeState
from ascend_opentelemetry.native._upstream import NativeChoice, choose
from ascend_opentelemetry.native._watch import read

if TYPE_CHECKING:
    from ascend_opentelemetry.native._exporter import MsServiceProfilerSpanExporter

__all__ = [
    "LEVELS",
    "ConfigError",
    "Field",
    "FieldError",
    "MsServiceProfilerSpanExporter",
    "NativeChoice",
    "NativeSink",
    "NativeState",
    "Problem",
    "ProfileConfig",
    "ProfileSession",
    "choose",
    "default_text",
    "encode_args",
    "field_table",
    "filter_problem",
    "is_reserved",
    "members",
    "parse",
    "read",
    "specs",
]


def __getattr__(name: str) -> Any:
    # the exporter needs the OpenTelemetry SDK, which a process without it must not import
    if name == "MsServiceProfilerSpanExporter":
        from ascend_opentelemetry.native._exporter import MsServiceProfilerSpanExporter

        return MsServiceProfilerSpanExporter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
