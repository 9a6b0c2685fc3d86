"""Records and SDK spans as OTLP requests, sent by the transports of the SDK's own exporters."""

from ascend_opentelemetry.otlp._bridge import BridgeSink
from ascend_opentelemetry.otlp._foreign import ForeignProcessors
from ascend_opentelemetry.otlp._processor import RecordSpanProcessor
from ascend_opentelemetry.otlp._readable import to_readable
from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN
from ascend_opentelemetry.otlp._sink import OtlpSink

__all__ = [
    "SDK_SPAN",
    "BridgeSink",
    "ForeignProcessors",
    "OtlpSink",
    "RecordSpanProcessor",
    "to_readable",
]
