# Python 3.11 and make are enough: each environment is built once in the user's cache.
PYTHON ?= python3
DEV = dev=$$($(PYTHON) -m devtools.dev_env) &&
VLLM = vllm=$$($(PYTHON) -m devtools.vllm_env) &&
# files of tests side by side, those of one file in order; servers are timed and get the machine for themselves
PARALLEL = -n 2 --dist loadfile
# a folder without tests yet (status 5) is no failure
PYTEST = -m pytest $(PYTEST_ARGS)
NONE_YET = || [ $$? -eq 5 ]
# what any version of vLLM must do: request trees, steps, native rows
CORE = tests/e2e/test_e2e_traces.py tests/e2e/test_e2e_native.py tests/e2e/test_e2e_golden.py -k "ours or not golden"

.PHONY: demo test lint unit oldest integration e2e reliability versions newest vendor bench lock clean

demo: ## a real server, a few requests, and the traces and native files they leave
	@$(PYTHON) -m devtools.demo

test: lint unit oldest integration e2e ## everything that CI runs

lint: ## style, format, types, names
	@$(DEV) $$dev -m devtools.semconv --check && $$dev -m ruff check . && $$dev -m ruff format --check . && $$dev -m pyright --pythonpath $$dev

unit: ## tests without vLLM
	@$(DEV) $$dev $(PYTEST) $(PARALLEL) tests/unit $(NONE_YET)

oldest: ## tests of what depends on OpenTelemetry's inside, with the oldest version supported
	@oldest=$$($(PYTHON) -m devtools.otel_oldest) && \
	$$oldest $(PYTEST) $(PARALLEL) tests/unit/otlp tests/unit/recorder tests/unit/cli tests/unit/status \
		tests/unit/npu/test_npu_mspti_histogram.py tests/integration/test_integration_processes.py

integration: ## tests with several parts of the package, vLLM in one process, Jaeger and the Collector
	@$(PYTHON) -m devtools.vllm_sources core >/dev/null || true
	@$(PYTHON) -m devtools.backends >/dev/null && $(VLLM) ASCEND_OTEL_TEST_VLLM=1 $$vllm $(PYTEST) $(PARALLEL) tests/integration $(NONE_YET)

e2e: ## tests with the real server
	@$(PYTHON) -m devtools.backends >/dev/null && $(VLLM) ASCEND_OTEL_TEST_VLLM=1 $$vllm $(PYTEST) tests/e2e $(NONE_YET)

reliability: ## the tests that inject faults, and docs/reliability.md with what they saw
	@$(VLLM) notes=$$(mktemp -d) && export ASCEND_OTEL_TEST_RELIABILITY=$$notes ASCEND_OTEL_TEST_VLLM=1 && \
	$$vllm $(PYTEST) -m reliability tests/integration tests/e2e && $$vllm -m tests.support.reliability && rm -r $$notes

versions: ## the hooks against the source of each supported vLLM, and the core of the e2e tests on an older one
	@$(PYTHON) -m devtools.vllm_sources >/dev/null && $(VLLM) \
	ASCEND_OTEL_TEST_VERSIONS=all $$vllm $(PYTEST) tests/integration/test_integration_vllm_versions.py
	@export ASCEND_OTEL_TEST_VLLM_VERSION=0.27.1 && $(VLLM) ASCEND_OTEL_TEST_VLLM=1 $$vllm $(PYTEST) $(CORE)

newest: ## the core of the e2e tests on the newest vLLM for the CPU that the package index serves
	@version=$$($(PYTHON) -m devtools.vllm_newest) && export ASCEND_OTEL_TEST_VLLM_VERSION=$$version && \
	$(VLLM) ASCEND_OTEL_TEST_VLLM=1 $$vllm $(PYTEST) $(CORE)

vendor: ## what is read of torch_npu against the real one, on a stand-in of CANN
	@vendor=$$($(PYTHON) -m devtools.torch_npu_env) && ASCEND_OTEL_TEST_VENDOR=1 $$vendor $(PYTEST) tests/vendor

bench: ## benchmarks of the hot path and of a served model
	@$(VLLM) $$vllm -m benchmarks

lock: ## new pins for devtools/locks
	@$(PYTHON) -m devtools.lock

clean: ## outputs in this folder; the cached environments stay
	rm -rf build dist demo-output .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
