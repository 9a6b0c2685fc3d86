"""Statistics of operators and collectives, live and from recordings, and their telemetry."""
