"""A meter provider of the SDK in a forked child: it would export the parent's counts, as the child's own.

What the SDK keeps private is used here and in ``_provider`` alone. Source: ``opentelemetry.sdk.metrics`` and the OTLP
exporters 1.41 to 1.45.
"""

from __future__ import annotations

import threading
from typing import Any

#: Connections that belong to the parent: if they were dropped, they would be closed.
_inherited: list[Any] = []


def after_fork(provider: Any, scope: str | None) -> None:
    """Forget what the parent has measured.

    Args:
        provider: of the SDK; another one is left as it is.
        scope: name of the instrumentation scope to forget; None: all of them.
    """
    consumer = getattr(provider, "_measurement_consumer", None)
    storages = getattr(consumer, "_reader_storages", None)
    if consumer is None or storages is None:
        return
    # a thread of the parent may have held any of these locks
    consumer._lock = threading.Lock()
    provider._meter_lock = threading.Lock()
    for meter in provider._meters.values():
        meter._instrument_registration_lock = threading.Lock()
    for reader, storage in storages.items():
        storage._lock = threading.RLock()
        storage._instrument_view_instrument_matches = {
            instrument: matches
            for instrument, matches in storage._instrument_view_instrument_matches.items()
            if scope is not None and instrument.instrumentation_scope.name != scope
        }
        if hasattr(reader, "_export_lock"):
            reader._export_lock = threading.Lock()
            _reconnect(reader._exporter)


def _reconnect(exporter: Any) -> None:
    """Leave the connection of an OTLP exporter to the parent."""
    if hasattr(exporter, "_channel") and hasattr(exporter, "_initialize_channel_and_stub"):
        _inherited.append(exporter._channel)
        exporter._initialize_channel_and_stub()
        return
    client = getattr(exporter, "_client", exporter)
    session = getattr(getattr(client, "_transport", client), "_session", None)
    for adapter in getattr(session, "adapters", {}).values():
        _inherited.append(adapter.poolmanager)
        adapter.init_poolmanager(adapter._pool_connections, adapter._pool_maxsize, block=adapter._pool_block)
