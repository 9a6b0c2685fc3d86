"""Endpoints as they may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def without_secrets(endpoint: str) -> str:
    """The endpoint without what may be a password: user, query and fragment."""
    if "://" not in endpoint:
        return endpoint.rpartition("@")[2]
    parts = urlsplit(endpoint)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def hide_secrets(text: str, endpoint: str) -> str:
    """A message about an endpoint without what ``without_secrets`` leaves out of it."""
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    user, at, _ = parts.netloc.rpartition("@")
    for secret in (user + at, f"?{parts.query}", f"#{parts.fragment}"):
        if len(secret) > 1:
            text = text.replace(secret, "")
    return text
