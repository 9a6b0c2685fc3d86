"""What telemetry costs: ratios to the SDK and to a vLLM without any. ``python -m benchmarks`` runs them."""
