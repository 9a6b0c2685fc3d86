"""Endpoints as they may be shown."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit


def without_secrets(endpoint: str) -> str:
    """The endpoint without what may be a password: user, query and fragment."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:  # no URL: an exporter may still make something of it
        return endpoint.rpartition("@")[2].partition("?")[0]
    if "://" not in endpoint:
        return endpoint.rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def hide_secrets(text: str, endpoint: str) -> str:
    """A message about an endpoint without what ``without_secrets`` leaves out of it."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    except ValueError:
        return text.replace(endpoint, without_secrets(endpoint))
    user, at, _ = parts.netloc.rpartition("@")
    for secret in (user + at, f"?{parts.query}", f"#{parts.fragment}"):
        if len(secret) > 1:
            text = text.replace(secret, "").replace(unquote(secret), "")  # gRPC decodes it
    return text
