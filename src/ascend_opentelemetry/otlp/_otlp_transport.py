"""Sends encoded spans through the SDK's own OTLP exporters: the one module that knows their private parts.

Endpoint, headers, TLS, compression, timeout, retries and the exporter's own metrics stay the SDK's. Read from
opentelemetry-exporter-otlp-proto-{grpc,http} 1.41.0 and 1.45.2; an exporter that looks different is not touched.
"""

from __future__ import annotations

import logging
import threading
import zlib
from types import FunctionType, MethodType
from typing import Any

from ascend_opentelemetry.otlp._transport import Outcome, Transport, hush

_PACKAGE = "opentelemetry.exporter.otlp.proto"
_GRPC_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_GRPC_RETRY = "google.rpc.retryinfo-bin"
#: Channels to one address share their connection, and its pause after a failure, unless told not to.
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


class _OtlpTransport(Transport):
    takes_bytes = True

    def __init__(self, exporter: Any, logger: str) -> None:
        super().__init__(exporter)
        #: Connections of the parent process: closing them here could end them there.
        self._inherited: list[Any] = []
        logging.getLogger(logger).addFilter(hush)

    def _delivered(self, response: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # loaded by the exporter

        try:
            partial = trace_service_pb2.ExportTraceServiceResponse.FromString(response).partial_success
        except Exception:  # noqa: BLE001 - a proxy's page in place of an answer
            self.outcome = Outcome()
        else:
            self.outcome = Outcome("", partial.error_message, partial.rejected_spans)

    def _failed(self, error: BaseException) -> None:
        self.failing = True
        while root := error.__cause__ or error.__context__:
            error = root
        self.outcome = Outcome(type(error).__name__, str(error))


class _GrpcTransport(_OtlpTransport):
    """Passes bytes through ``_export``: the steps that encode and serialise leave the request as it is."""

    def __init__(self, exporter: Any) -> None:
        super().__init__(exporter, type(exporter)._export.__module__)
        self.protocol = "grpc"
        self._spans = 0
        #: The channel could not connect, and now waits before it tries again.
        self._unconnected = False
        exporter._translate_data = _itself
        exporter._count_data = lambda _: self._spans
        exporter._stub = self._stub
        exporter._client = self._stub(exporter._channel)

    def _stub(self, channel: Any) -> _GrpcStub:
        return _GrpcStub(self, channel)

    def _refused(self, error: Any) -> None:
        if hasattr(error, "code"):
            self.outcome = Outcome(error.code().name, error.details())
            self._unconnected = self.outcome.cause == "UNAVAILABLE"
            self.failing = _GRPC_RETRY not in dict(error.trailing_metadata() or ())
        else:
            self._failed(error)

    def _export(self, payload: bytes, spans: int) -> Any:
        self._spans = spans
        if self._unconnected:
            self._exporter._channel.close()
            self._connect()
        return self._exporter._export(payload)

    def _connect(self) -> None:
        exporter = self._exporter
        self._unconnected = False
        if _OWN_CONNECTION not in exporter._channel_options:
            exporter._channel_options = (*exporter._channel_options, _OWN_CONNECTION)
        exporter._initialize_channel_and_stub()

    def end_retries(self) -> None:
        self._exporter._shutdown_in_progress.set()

    def after_fork(self) -> None:
        super().after_fork()
        self._inherited.append(self._exporter._channel)
        self._exporter._shutdown_in_progress = threading.Event()  # its lock may have been held at the fork
        self._connect()


class _GrpcStub:
    """The part of ``TraceServiceStub`` that ``_export`` calls, for requests that are bytes already."""

    def __init__(self, transport: _GrpcTransport, channel: Any) -> None:
        self._transport = transport
        self._call = channel.unary_unary(_GRPC_METHOD)

    def Export(self, request: bytes, **options: Any) -> None:  # noqa: N802 - the stub's name
        try:
            response = self._call(request, **options)
        except Exception as error:
            self._transport._refused(error)
            raise
        self._transport._delivered(response)


class _Encoded:
    """Stands where ``export`` expects the spans, and where it expects the message made of them."""

    __slots__ = ("_payload", "_spans")

    def __init__(self, payload: bytes, spans: int) -> None:
        self._payload = payload
        self._spans = spans

    def __len__(self) -> int:
        return self._spans

    def SerializePartialToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self._payload

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self._payload


class _HttpTransport(_OtlpTransport):
    """Runs the exporter's own ``export`` with an ``encode_spans`` that leaves the request as it is."""

    def __init__(self, exporter: Any, export: FunctionType) -> None:
        super().__init__(exporter, export.__module__)
        self.protocol = "http/protobuf"
        names = {**export.__globals__, "encode_spans": _itself}
        passing = FunctionType(export.__code__, names, export.__name__, export.__defaults__, export.__closure__)
        self._send = MethodType(passing, exporter)
        # makes one attempt: an object of its own in 1.45, the exporter itself in 1.41
        self._client: Any = getattr(exporter, "_client", exporter)
        self._attempt_name = "_submit" if hasattr(self._client, "_submit") else "_export"
        self._attempt = getattr(self._client, self._attempt_name)
        if getattr(getattr(self._client, "_compression", None), "value", "") == "gzip" and hasattr(
            self._client, "_compress"
        ):
            self._client._compress = _gzip
        setattr(self._client, self._attempt_name, self._observed)
        self._event_name = "_shutdown_event" if hasattr(self._client, "_shutdown_event") else "_shutdown_in_progress"

    def _export(self, payload: bytes, spans: int) -> Any:
        return self._send(_Encoded(payload, spans))

    def _observed(self, *args: Any, **options: Any) -> Any:
        try:
            result = self._attempt(*args, **options)
        except Exception as error:
            self._failed(error)
            raise
        if result.status_code is None:
            self._failed(result.error)
        elif result.status_code < 400:
            content: Any = result.content
            self._delivered(content if isinstance(content, bytes) else content())
        else:
            self.outcome = Outcome(str(result.status_code), result.reason or "")
            headers: Any = result.headers
            fields: Any = headers() if callable(headers) else headers
            self.failing = "retry-after" not in fields
        return result

    def end_retries(self) -> None:
        getattr(self._client, self._event_name).set()

    def after_fork(self) -> None:
        super().after_fork()
        setattr(self._client, self._event_name, threading.Event())
        session = getattr(getattr(self._client, "_transport", self._client), "_session", None)
        for adapter in session.adapters.values() if session is not None else ():
            self._inherited.append(adapter.poolmanager)
            adapter.init_poolmanager(adapter._pool_connections, adapter._pool_maxsize, block=adapter._pool_block)


def _gzip(data: bytes) -> bytes:
    """Level 1: 5 % more bytes than the 9 of the SDK, since spans of a batch are alike, in a sixth of the time."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return compressor.compress(data) + compressor.flush()


def _itself(spans: Any) -> Any:
    return spans


def open_transport(exporter: Any) -> Transport | None:
    """Return a way to send bytes through an OTLP exporter of the SDK.

    Args:
        exporter: an ``OTLPSpanExporter`` of ``opentelemetry.exporter.otlp.proto.grpc`` or ``.http``. It sends bytes
            only from here on, and belongs to the transport.

    Returns:
        None for any other exporter, and for one whose private parts are not the known ones.
    """
    modules = {cls.__module__ for cls in type(exporter).__mro__}
    if f"{_PACKAGE}.grpc.trace_exporter" in modules:
        parts = ("_endpoint", "_channel", "_channel_options", "_client", "_stub", "_translate_data", "_export")
        known = all(hasattr(exporter, part) for part in (*parts, "_initialize_channel_and_stub"))
        return _GrpcTransport(exporter) if known else None
    if f"{_PACKAGE}.http.trace_exporter" in modules:
        export = type(exporter).export
        client = getattr(exporter, "_client", exporter)
        if (
            isinstance(export, FunctionType)
            and "encode_spans" in export.__code__.co_names
            and hasattr(exporter, "_endpoint")
            and (hasattr(client, "_submit") or hasattr(client, "_export"))
        ):
            return _HttpTransport(exporter, export)
    return None
