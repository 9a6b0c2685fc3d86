"""``python3 -m devtools.vllm_newest``: the newest vLLM for the CPU that the package index serves."""

from __future__ import annotations

import sys

from devtools import _env, vllm_lock, vllm_sources


def main() -> int:
    """Prints the version; 1, with the reason on stderr, when the index does not tell."""
    cache = _env.cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    wanted, pinned = cache / "vllm-newest.in", cache / "vllm-newest.txt"
    wanted.write_text(f"{vllm_sources.DISTRIBUTION}\n")
    try:
        command = [_env.uv(), "pip", "compile", "--upgrade", "--no-deps", "--no-header", "--no-annotate"]
        command += ["--no-emit-index-url", *vllm_lock.PLATFORM, wanted, "-o", pinned]
        log = cache / "vllm-newest.log"
        _env.run(f"looking for the newest {vllm_sources.DISTRIBUTION}", command, log=log, env=_env.index_environment())
    except _env.BuildError as error:
        _env.say(f"error: {error}")
        return 1
    print(pinned.read_text().strip().partition("==")[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
