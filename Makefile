# Python 3.11 and make are enough: each environment is built once in the user's cache.
PYTHON ?= python3
DEV = dev=$$($(PYTHON) -m devtools.dev_env) &&
VLLM = vllm=$$($(PYTHON) -m devtools.vllm_env) &&
# a folder without tests yet (status 5) is no failure
PYTEST = -m pytest $(PYTEST_ARGS)
NONE_YET = || [ $$? -eq 5 ]

.PHONY: demo test lint unit oldest integration e2e reliability bench lock clean

demo: ## a real server, a few requests, and the traces and native files they leave
	@$(PYTHON) -m devtools.demo

test: lint unit oldest integration e2e ## everything that CI runs

lint: ## style, format, types
	@$(DEV) $$dev -m ruff check . && $$dev -m ruff format --check . && $$dev -m pyright --pythonpath $$dev

unit: ## tests without vLLM
	@$(DEV) $$dev $(PYTEST) tests/unit $(NONE_YET)

oldest: ## tests of what depends on OpenTelemetry's inside, with the oldest version supported
	@oldest=$$($(PYTHON) -m devtools.otel_oldest) && \
	$$oldest $(PYTEST) tests/unit/otlp tests/unit/recorder tests/unit/cli tests/unit/status tests/integration/test_integration_processes.py

integration: ## tests with several parts of the package, vLLM in one process, Jaeger and the Collector
	@$(PYTHON) -m devtools.backends >/dev/null && $(VLLM) ASCEND_OTEL_TEST_VLLM=1 $$vllm $(PYTEST) tests/integration $(NONE_YET)

e2e: ## tests with the real server
	@$(PYTHON) -m devtools.backends >/dev/null && $(VLLM) ASCEND_OTEL_TEST_VLLM=1 $$vllm $(PYTEST) tests/e2e $(NONE_YET)

reliability: ## the tests that inject faults, and docs/reliability.md with what they saw
	@$(VLLM) notes=$$(mktemp -d) && export ASCEND_OTEL_TEST_RELIABILITY=$$notes ASCEND_OTEL_TEST_VLLM=1 && \
	$$vllm $(PYTEST) -m reliability tests && $$vllm -m tests.support.reliability && rm -r $$notes

bench: ## benchmarks of the hot path and of a served model
	@$(VLLM) $$vllm -m benchmarks

lock: ## new pins for devtools/locks
	@$(PYTHON) -m devtools.lock

clean: ## outputs in this folder; the cached environments stay
	rm -rf build dist demo-output .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
