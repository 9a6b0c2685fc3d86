"""What listens at an address, found out without OTLP."""

from __future__ import annotations

import socket
import ssl
from typing import Literal, NamedTuple, TypeAlias

Spoken: TypeAlias = Literal["HTTP/1", "HTTP/2", ""]

#: Seconds for each step.
TIMEOUT = 1.0

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
_SETTINGS_FRAME = 4


class Probe(NamedTuple):
    """The outcome.

    ``unreached`` is empty where somebody listens, else why the connection failed. ``spoken`` is empty for somebody
    who speaks neither. ``untrusted`` is why a TLS certificate is not accepted.
    """

    unreached: str = ""
    tls: bool = False
    untrusted: str = ""
    spoken: Spoken = ""


def probe(host: str, port: int, *, http2: bool, ca_file: str | None = None) -> Probe:
    """Connect and listen.

    Args:
        host: name or address.
        port: of TCP.
        http2: which of its protocols a TLS server is asked for.
        ca_file: of the certificate's issuers; None: those of the system.
    """
    try:
        _connect(host, port).close()
    except OSError as error:
        return Probe(unreached=_reason(error))
    alpn = ["h2"] if http2 else ["http/1.1"]
    if not _shakes_hands(host, port, _context(alpn)):
        return Probe(spoken=_spoken(host, port, None))
    return Probe("", True, _distrust(host, port, alpn, ca_file), _spoken(host, port, _context(alpn)))


def _connect(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), TIMEOUT)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return (error.strerror or str(error)).lower()


def _context(alpn: list[str]) -> ssl.SSLContext:
    """For a look only: nothing is sent that a stranger must not have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(alpn)
    return context


def _shakes_hands(host: str, port: int, context: ssl.SSLContext) -> bool:
    try:
        with _connect(host, port) as raw, context.wrap_socket(raw, server_hostname=host):
            return True
    except OSError:
        return False


def _distrust(host: str, port: int, alpn: list[str], ca_file: str | None) -> str:
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.set_alpn_protocols(alpn)
        with _connect(host, port) as raw, context.wrap_socket(raw, server_hostname=host):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError as error:  # a file that is missing or no certificate, too
        return str(error)


def _spoken(host: str, port: int, context: ssl.SSLContext | None) -> Spoken:
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    for message in (request, _HTTP2_PREFACE):
        answer = _ask(host, port, context, message)
        if answer.startswith(b"HTTP/1."):
            return "HTTP/1"
        if len(answer) >= 9 and answer[3] == _SETTINGS_FRAME:
            return "HTTP/2"
    return ""


def _ask(host: str, port: int, context: ssl.SSLContext | None, message: bytes) -> bytes:
    try:
        with _connect(host, port) as raw:
            stream = context.wrap_socket(raw, server_hostname=host) if context is not None else raw
            with stream:
                stream.sendall(message)
                return stream.recv(64)
    except OSError:
        return b""
