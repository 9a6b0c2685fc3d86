"""Names of attributes, metrics, spans and events; generated from ``semconv/`` by ``python -m devtools.semconv``."""
