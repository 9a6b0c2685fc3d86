"""Lock files of the environments with the real vLLM: one for each version that tests serve with."""

from __future__ import annotations

import os
import re
from pathlib import Path

from devtools import _env, vllm_sources

#: The version that tests and tools take; without it, the one of ``vllm.txt``.
VARIABLE = "ASCEND_OTEL_TEST_VLLM_VERSION"
DEFAULT = _env.LOCKS / "vllm.txt"
PLATFORM = ("--python-version", "3.11", "--python-platform", "x86_64-unknown-linux-gnu")


def path() -> Path:
    """The lock file of the version asked for: of this repository, else one in the cache, which may not exist yet."""
    version = os.environ.get(VARIABLE)
    if not version or f"{vllm_sources.DISTRIBUTION}=={version}\n" in DEFAULT.read_text():
        return DEFAULT
    pinned = _env.LOCKS / f"vllm-{version}.txt"
    return pinned if pinned.exists() else _env.cache_dir() / pinned.name


def ensure() -> Path:
    """Like ``path``, resolved once for a version that this repository has no lock file of.

    Raises:
        BuildError: the package index does not serve the version, or what it needs.
    """
    lock = path()
    if lock.exists():
        return lock
    version = lock.stem.removeprefix("vllm-")
    pins = {vllm_sources.DISTRIBUTION: version, "torch": torch_pin(vllm_sources.fetch(version))}
    with _env.locked(lock.with_suffix(".lock")):
        inputs = []
        for name in ("vllm.in", "vllm-overrides.txt"):
            text = (_env.LOCKS / name).read_text()
            for package, pin in pins.items():
                text = re.sub(rf"(?m)^{package}==.*", f"{package}=={pin}", text)
            inputs.append(lock.with_name(f"vllm-{version}-{name}"))
            inputs[-1].write_text(text)
        resolved = lock.with_suffix(".resolved")
        command = [_env.uv(), "pip", "compile", "--no-header", "--no-annotate", "--no-emit-index-url", *PLATFORM]
        command += ["--overrides", inputs[1], inputs[0], "-o", resolved]
        _env.run(f"resolving vLLM {version}", command, log=lock.with_suffix(".log"), env=_env.index_environment())
        resolved.rename(lock)
    return lock


def torch_pin(sources: Path) -> str:
    """The release of torch that a version was built with; its ``+cpu`` build is on no package index but PyTorch's."""
    metadata = next(sources.glob("*.dist-info/METADATA")).read_text()
    pins = re.finditer(r"(?m)^Requires-Dist: torch==([\d.]+)(?:\+cpu)?(?:;(?P<marker>.*))?$", metadata)
    found = [pin for pin in pins if "x86_64" in (pin["marker"] or "x86_64")]
    if not found:
        raise _env.BuildError(f"{sources}: the metadata of the wheel pins no torch for x86_64")
    return found[0][1]
