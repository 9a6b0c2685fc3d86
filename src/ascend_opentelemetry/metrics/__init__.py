"""Records to OTel instruments."""

from ascend_opentelemetry.metrics._lost import lost_records
from ascend_opentelemetry.metrics._provider import has_ended, is_read, reader_names
from ascend_opentelemetry.metrics._sink import FLUSH_SECONDS, MetricsSink, Totals

__all__ = ["FLUSH_SECONDS", "MetricsSink", "Totals", "has_ended", "is_read", "lost_records", "reader_names"]
