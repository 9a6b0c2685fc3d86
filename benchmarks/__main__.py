"""Runs the benchmarks: ``python -m benchmarks [hook|expressions|otlp|recording|operators|llm|serve|shutdown|all] [--quick]``; status 1 where a goal is missed.

``hook``, ``expressions``, ``otlp``, ``recording`` and ``operators`` need the packages of this process only, the others the real vLLM (devtools.vllm_env).
"""

from __future__ import annotations

import argparse
import os
import sys

NAMES = ("hook", "expressions", "otlp", "recording", "operators", "llm", "serve", "shutdown")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description="What telemetry costs, as ratios.")
    parser.add_argument("which", nargs="?", choices=[*NAMES, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    chosen = NAMES if options.which == "all" else (options.which,)
    met = [_run(name, options.quick) for name in chosen]
    return 0 if all(met) else 1


def _run(name: str, quick: bool) -> bool:
    print(f"\n=== {name}; load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} CPUs ===", flush=True)
    if name == "hook":
        from benchmarks import bench_hook

        return bench_hook.run(quick)
    if name == "expressions":
        from benchmarks import bench_expressions

        return bench_expressions.run(quick)
    if name == "otlp":
        from benchmarks import bench_export, bench_otlp

        bench_otlp.bench_encoding(3 if quick else 7)
        return bench_export.run(quick)
    if name == "recording":
        from benchmarks import bench_recording

        return bench_recording.run(quick)
    if name == "operators":
        from benchmarks import bench_operators

        return bench_operators.run(quick)
    if name == "llm":
        from benchmarks import bench_llm

        return bench_llm.run(quick)
    if name == "serve":
        from benchmarks import bench_serve

        return bench_serve.run(quick)
    from benchmarks import bench_shutdown

    return bench_shutdown.run(quick)


if __name__ == "__main__":
    sys.exit(main())
