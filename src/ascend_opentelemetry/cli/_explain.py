"""Why the test span did not arrive."""

from __future__ import annotations

import os

from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.cli._endpoint import TIMEOUT, Answer
from ascend_opentelemetry.cli._finding import Finding
from ascend_opentelemetry.cli._probe import Probe, probe

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_CERTIFICATE = "OTEL_EXPORTER_OTLP_CERTIFICATE"

_REFUSED = ("401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED")
_BUSY = ("429", "503", "RESOURCE_EXHAUSTED")
#: These take the place of the exporter's certificate: ``requests`` has it so.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SCHEMES = ("InvalidSchema", "MissingSchema", "InvalidURL")


def explain(answer: Answer) -> Finding | None:
    """Name the cause; where the answer does not say it, look at what listens there. None: the span has arrived."""
    where = without_secrets(answer.endpoint)
    if not answer.cause:
        if not answer.rejected:
            return None
        return Finding(
            "warning", f"{where} takes requests, but rejected the test span: {answer.detail}", "See its log."
        )
    said = _from_answer(answer, where)
    if said is not None:
        return said
    address = answer.address
    if address is None:
        return _not_delivered(answer, where)
    ca_file = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE") or os.environ.get(_CERTIFICATE)
    found = probe(*address, http2=answer.protocol == "grpc", ca_file=ca_file)
    return _from_probe(answer, found, f"{address[0]}:{address[1]}") or _not_delivered(answer, where)


def _from_answer(answer: Answer, where: str) -> Finding | None:
    """What the answer says by itself."""
    cause = answer.cause
    if answer.protocol == "grpc" and "@" in answer.endpoint:
        return Finding(
            "error",
            f"the endpoint {where} has a user or password, which gRPC takes for a part of the host's name",
            "Put the credentials into OTEL_EXPORTER_OTLP_HEADERS.",
        )
    if cause in _REFUSED:
        return Finding(
            "error",
            f"{where} does not let us in: {cause} ({answer.detail})",
            "Put the credentials that the backend wants into OTEL_EXPORTER_OTLP_HEADERS.",
        )
    if cause in _BUSY:
        return Finding("warning", f"{where} is too busy: {cause} ({answer.detail})", "Give the collector more room.")
    if cause in _SCHEMES:
        return Finding("error", f"{where} is no URL: {answer.detail}", f"Write http:// or https:// in {_ENDPOINT}.")
    if cause in ("404", "405"):
        if answer.path.rstrip("/").endswith("/v1/traces"):
            return Finding(
                "error",
                f"{where} is no OTLP endpoint: {cause} ({answer.detail})",
                f"Name the HTTP port of the collector in {_ENDPOINT} (usually 4318).",
            )
        return Finding(
            "error",
            f"/v1/traces is missing in the path of {where}: {cause} ({answer.detail})",
            "Append /v1/traces to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, which is used as it is, or set "
            f"{_ENDPOINT} in its place.",
        )
    if cause == "UNIMPLEMENTED":
        return Finding(
            "error",
            f"{where} speaks HTTP/2, but takes no OTLP traces over gRPC: {cause} ({answer.detail})",
            f"Name the gRPC port of the collector in {_ENDPOINT} (usually 4317), or set {_PROTOCOL}=http/protobuf.",
        )
    return None


def _from_probe(answer: Answer, found: Probe, where: str) -> Finding | None:
    if found.unreached:
        return Finding(
            "error",
            f"nothing listens at {where}: {found.unreached}",
            f"Start a collector there, or name another one in {_ENDPOINT}.",
        )
    if found.tls and not answer.tls:
        more = f", and name the issuer of its certificate in {_CERTIFICATE}" if found.untrusted else ""
        return Finding(
            "error",
            f"TLS mismatch: {where} speaks TLS, and the endpoint has it spoken to without",
            f"Write https:// in the endpoint{more}.",
        )
    if answer.tls and not found.tls and found.spoken:
        return Finding(
            "error",
            f"TLS mismatch: {where} does not speak TLS, and the endpoint has it spoken to by TLS",
            "Write http:// in the endpoint.",
        )
    if answer.tls and found.untrusted:
        return Finding(
            "error",
            f"TLS mismatch: the certificate of {where} is not trusted: {found.untrusted}",
            f"Name the file of its issuer's certificate in {_CERTIFICATE}.",
        )
    bundle = next((name for name in _BUNDLES if os.environ.get(name)), None)
    if answer.protocol == "http/protobuf" and answer.cause == "SSLCertVerificationError" and found.tls and bundle:
        return Finding(
            "error",
            f"TLS mismatch: the certificate of {where} is not trusted: {bundle} takes the place of {_CERTIFICATE}",
            f"Unset {bundle} for the service, or add the issuer's certificate to its file.",
        )
    if answer.protocol == "grpc" and found.spoken == "HTTP/1":
        return Finding(
            "error",
            f"{where} is no gRPC port: it speaks HTTP/1, and the protocol is grpc",
            f"Set {_PROTOCOL}=http/protobuf, or name the gRPC port (usually 4317).",
        )
    if answer.protocol == "http/protobuf" and found.spoken == "HTTP/2":
        return Finding(
            "error",
            f"{where} is a gRPC port (HTTP/2), and the protocol is http/protobuf",
            f"Set {_PROTOCOL}=grpc, or name the HTTP port (usually 4318).",
        )
    if not found.spoken:
        return Finding(
            "error",
            f"somebody listens at {where}, but does not answer within {TIMEOUT} s: {answer.cause} ({answer.detail})",
            "See the log of the collector; is it an OTLP port?",
        )
    return None


def _not_delivered(answer: Answer, where: str) -> Finding:
    return Finding(
        "error",
        f"{where} did not take the test span: {answer.cause} ({answer.detail})",
        "See the log of the collector.",
    )
