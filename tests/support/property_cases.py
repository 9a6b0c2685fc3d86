"""How many cases the property tests of the readers get: of expressions, YAML and JSON 2 000 in all, 1 s each at most."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

#: By what the cases are; those of YAML run with each of PyYAML's two loaders.
CASES: Mapping[str, int] = {
    "any text as an expression": 600,
    "values of an expression": 500,
    "what an expression touches": 200,
    "any value as YAML": 200,
    "any bytes as YAML": 200,
    "any object as JSON": 300,
    "any text as JSON": 300,
    "any word in a field of JSON": 100,
}
MINIMUM = 2000
#: Of one case, on the CPU: other work on the machine must not fail a test.
SECONDS = 1.0


def cases(kind: str, /, **strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Run a test with so many values of the strategies, the same in each run."""
    import hypothesis  # not everywhere where tests are collected

    def decorate(test: Callable[..., None]) -> Any:
        @functools.wraps(test)
        def timed(*args: Any, **kwargs: Any) -> None:
            started = time.thread_time()
            test(*args, **kwargs)
            assert time.thread_time() - started < SECONDS

        settings = hypothesis.settings(
            max_examples=CASES[kind],
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],  # by the clock on the wall too
        )
        return settings(hypothesis.given(**strategies)(timed))

    return decorate
