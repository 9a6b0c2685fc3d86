"""What is asked of a meter provider beyond its API; the private parts of the SDK that it takes are used here and in ``_fork`` alone.

Source: ``opentelemetry.sdk.metrics`` 1.41 to 1.45.
"""

from __future__ import annotations

import time
from typing import Any

_API = "opentelemetry.metrics"


def is_read(provider: Any) -> bool:
    """Whether somebody may collect what is measured: a provider of the SDK has readers, one of the API has none."""
    module = type(provider).__module__
    if module == _API or module.startswith(f"{_API}."):
        return False
    if getattr(provider, "_disabled", False) or not hasattr(provider, "get_meter"):
        return False
    readers = _readers(provider)
    return readers is None or bool(readers)


def has_ended(provider: Any) -> bool:
    """Whether a provider of the SDK was shut down: it warns of a second time."""
    return bool(getattr(provider, "_shutdown", False))


def flush(provider: Any, timeout: float) -> bool:
    """Have periodic readers export now.

    Others, as Prometheus', are not asked: what they collect beside a scrape would be in the next one twice.

    Args:
        provider: of the SDK, or any that has ``force_flush``.
        timeout: seconds; the exporters of the SDK may take longer all the same.
    """
    readers = _readers(provider)
    if readers is None:
        return bool(provider.force_flush(timeout * 1000)) if hasattr(provider, "force_flush") else True
    deadline = time.monotonic() + timeout
    complete = True
    for reader in readers:
        if hasattr(reader, "_exporter"):
            complete &= bool(reader.force_flush(max(1.0, (deadline - time.monotonic()) * 1000)))
    return complete


def reader_names(provider: Any) -> list[str]:
    """Class of each reader of an SDK provider, and of the exporter that it feeds; empty for another provider."""
    names: list[str] = []
    for reader in _readers(provider) or ():
        exporter = getattr(reader, "_exporter", None)
        name = type(reader).__name__
        names.append(name if exporter is None else f"{name}({type(exporter).__name__})")
    return names


def _readers(provider: Any) -> list[Any] | None:
    """Readers of an SDK provider; None of another one."""
    storages = getattr(getattr(provider, "_measurement_consumer", None), "_reader_storages", None)
    return None if storages is None else list(storages)
