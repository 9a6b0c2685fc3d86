"""Environment variables of the distribution.

Names that start with ``OTEL_PYTHON_`` are flags of ``opentelemetry-instrument`` too:
``OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO`` is ``--vllm_step_sample_ratio``.
"""

OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO = "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO"
"""Share of the engine steps that are traced, 0 to 1, default 0.01. A step in which a sampled request has its
first prefill is always traced."""

OTEL_PYTHON_VLLM_BAGGAGE_KEYS = "OTEL_PYTHON_VLLM_BAGGAGE_KEYS"
"""Comma-separated keys of the client's baggage that become attributes of ``llm_request``; unset: none."""

SERVICE_PROF_CONFIG_PATH = "SERVICE_PROF_CONFIG_PATH"
"""Path of the JSON file that switches the native ms_service_profiler files; unset: no native files."""

PROFILING_SYMBOLS_PATH = "PROFILING_SYMBOLS_PATH"
"""Path of the symbols file (``.yaml`` or ``.yml``); unset: the file of this package."""
