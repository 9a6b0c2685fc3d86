"""Regenerates the lock files of devtools/locks: ``python3 -m devtools.lock``."""

from __future__ import annotations

import sys

from devtools import _env, vllm_lock


def main() -> int:
    """Writes each ``<name>.txt`` from its ``<name>.in``; 1 when one cannot be resolved."""
    for name, options in (
        ("dev", ()),
        ("otel-oldest", ()),
        ("vllm", ("--overrides", _env.LOCKS / "vllm-overrides.txt")),
        ("vllm-0.27.1", ("--overrides", _env.LOCKS / "vllm-overrides.txt")),
        ("torch-npu", ("--no-deps",)),  # the rest is the vLLM environment's
    ):
        command = [_env.uv(), "pip", "compile", "--upgrade", "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += [*vllm_lock.PLATFORM, *options, _env.LOCKS / f"{name}.in", "-o", _env.LOCKS / f"{name}.txt"]
        log = _env.cache_dir() / f"lock-{name}.log"
        try:
            _env.run(f"resolving {name}.in", command, log=log, env=_env.index_environment())
        except _env.BuildError as error:
            _env.say(f"error: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
