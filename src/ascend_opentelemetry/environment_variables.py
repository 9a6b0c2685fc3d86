"""Environment variables of the distribution.

Names that start with ``OTEL_PYTHON_`` are flags of ``opentelemetry-instrument`` too:
``OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO`` is ``--vllm_step_sample_ratio``.
"""

OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO = "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO"
"""Share of the engine steps that are traced, 0 to 1, default 0.01. A step in which a sampled request has its
first prefill is always traced."""

OTEL_PYTHON_VLLM_BAGGAGE_KEYS = "OTEL_PYTHON_VLLM_BAGGAGE_KEYS"
"""Comma-separated keys of the client's baggage that become attributes of the spans of a request; unset: none."""

OTEL_PYTHON_VLLM_SYNCHRONIZE = "OTEL_PYTHON_VLLM_SYNCHRONIZE"
"""``true``: the worker waits for the device at the end of each traced span, which then holds the device's time and not
that of the launch. Costs serving speed in traced steps; default ``false``."""

OTEL_PYTHON_VLLM_NATIVE = "OTEL_PYTHON_VLLM_NATIVE"
"""``auto`` (default): native files are written unless the plugin of ms_service_profiler writes them; ``on``: they are in
any case; ``off``: never. Where and whether at all is for ``SERVICE_PROF_CONFIG_PATH`` to say."""

OTEL_PYTHON_VLLM_NPU_METRICS = "OTEL_PYTHON_VLLM_NPU_METRICS"
"""``auto`` (default): memory, state and allocator of the NPUs are measured where the driver's ``libdcmi.so`` or torch_npu
is found; ``on``: the same, and a missing driver is a warning; ``off``: never."""

OTEL_PYTHON_VLLM_NPU_OPERATORS = "OTEL_PYTHON_VLLM_NPU_OPERATORS"
"""What records the operators of the NPUs while no native window is open: ``off`` (default), ``mspti``, or ``torch``:
PyTorch's profiler for ten steps a minute, the last of which waits until it has stopped."""

OTEL_PYTHON_VLLM_DCMI_LIBRARY = "OTEL_PYTHON_VLLM_DCMI_LIBRARY"
"""Path of ``libdcmi.so``; unset: where the Ascend driver puts it."""

SERVICE_PROF_CONFIG_PATH = "SERVICE_PROF_CONFIG_PATH"
"""Path of the JSON file that switches the native ms_service_profiler files; unset: no native files."""

PROFILING_SYMBOLS_PATH = "PROFILING_SYMBOLS_PATH"
"""Path of the symbols file (``.yaml`` or ``.yml``); unset: the file of this package."""
