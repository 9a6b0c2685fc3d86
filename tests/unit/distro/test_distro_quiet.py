"""What repeats for ever is said once."""

from __future__ import annotations

import logging

import pytest

from ascend_opentelemetry.distro._quiet import OncePerCause, quiet_exporters

EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.exporter"


@pytest.fixture
def exporter() -> logging.Logger:
    """The logger of the SDK's gRPC exporter, with its own filter left out: that forgets after a minute."""
    logger = logging.getLogger(EXPORTER)
    before = logger.filters
    logger.filters = []
    yield logger
    logger.filters = before


def test_a_failure_that_comes_with_each_export_is_said_once(exporter, caplog) -> None:
    quiet_exporters()
    for seconds in (1.03, 2.11):
        exporter.warning("Transient error %s encountered, retrying in %.2fs.", "UNAVAILABLE", seconds)
        exporter.error("Failed to export metrics to %s, error code: %s", "localhost:4317", "UNIMPLEMENTED")
        exporter.warning("Shutdown in progress, aborting retry.")
    exporter.error("Failed to export metrics to %s, error code: %s", "localhost:4317", "UNAUTHENTICATED")
    assert caplog.messages == [
        "Transient error UNAVAILABLE encountered, retrying in 1.03s.",
        "Failed to export metrics to localhost:4317, error code: UNIMPLEMENTED",
        "Failed to export metrics to localhost:4317, error code: UNAUTHENTICATED",
    ]


def test_what_is_no_warning_is_left_alone(exporter, caplog) -> None:
    quiet_exporters()
    with caplog.at_level(logging.DEBUG, logger=EXPORTER):
        exporter.debug("sent")
        exporter.debug("sent")
    assert caplog.messages == ["sent", "sent"]


def test_a_logger_gets_one_filter(exporter) -> None:
    quiet_exporters()
    quiet_exporters()
    assert [type(one) for one in exporter.filters] == [OncePerCause]
