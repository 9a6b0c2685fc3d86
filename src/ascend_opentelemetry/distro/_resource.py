"""The resource: what is known of a process beyond what the SDK and its detectors find."""

from __future__ import annotations

import functools
import inspect
import multiprocessing.process
import multiprocessing.util
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import PurePath
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk import resources

from ascend_opentelemetry._role import program_of
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.version import __version__

_DETECTORS = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
#: Detectors of other packages that are used where they are installed: containers, Kubernetes.
_INSTALLED = ("container", "containerid", "kubernetes", "k8s")

#: Beginning of the name that vLLM gives a process -> what it calls its kind.
_KINDS = {"EngineCore": "engine_core", "DPEngineCore": "engine_core", "VllmWorker": "worker", "ApiServer": "api_server"}

_Follower = Callable[[Mapping[str, Any]], None]
#: Those who asked to be told.
_followers: list[_Follower] = []


def choose_detectors() -> None:
    """Have the SDK find out about process, system, host and container, unless the user says which detectors to use."""
    if _DETECTORS in os.environ:
        return
    names = ["host", "os"]
    # older ones tell the whole command line, and with it ``--api-key``
    if "include_command_args" in inspect.signature(resources.ProcessResourceDetector).parameters:
        names.append("process")
    found = {entry_point.name for entry_point in entry_points(group="opentelemetry_resource_detector")}
    os.environ[_DETECTORS] = ",".join(
        [name for name in names if name in found] + [name for name in _INSTALLED if name in found]
    )


def attributes() -> dict[str, Any]:
    """Attributes of this process, known when the SDK is configured."""
    return {keys.PROCESS_PID: os.getpid(), **distro(), **_instance(os.getpid()), **service()}


@functools.cache
def _instance(pid: int) -> dict[str, str]:  # noqa: ARG001 - a forked child is another instance
    """The ``service.instance.id`` that older SDKs do not make, unless the user does."""
    given = f"{keys.SERVICE_INSTANCE_ID}=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if given or hasattr(resources, "ServiceInstanceIdResourceDetector"):
        return {}
    return {keys.SERVICE_INSTANCE_ID: str(uuid.uuid4())}


def _child() -> dict[str, Any]:
    return {**_instance(os.getpid()), **service()}


def distro() -> dict[str, Any]:
    """Name and version of this distribution."""
    return {keys.TELEMETRY_DISTRO_NAME: "ascend-opentelemetry", keys.TELEMETRY_DISTRO_VERSION: __version__}


def service(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The part of this process in a vLLM service, as far as it is known now: kind and ranks.

    A spawned child knows when it has read what its parent sends it; see ``tell_child``.

    Args:
        argv: the interpreter's arguments; None: of this process.
    """
    process = multiprocessing.process.current_process()
    if multiprocessing.process.parent_process() is None:
        kind, program = program_of(sys.orig_argv if argv is None else argv)
        module = kind == "m" and program.startswith("vllm.entrypoints.")
        server = module or (kind == "" and PurePath(program).name == "vllm")
        return {keys.VLLM_PROCESS_KIND: "api_server"} if server else {}
    kind = next((kind for name, kind in _KINDS.items() if process.name.startswith(name)), None)
    if kind is None:
        return {}
    # private, and unchanged since Python 3.0
    options: Mapping[str, Any] = getattr(process, "_kwargs", {})
    return {keys.VLLM_PROCESS_KIND: kind, **_ranks(kind, options)}


def _ranks(kind: str, options: Mapping[str, Any]) -> dict[str, int]:
    """Ranks by what vLLM starts EngineCore and the workers with."""
    parallel = getattr(options.get("vllm_config"), "parallel_config", None)
    if kind == "engine_core":
        rank = options.get("dp_rank")
        return {} if rank is None else {keys.VLLM_DATA_PARALLEL_RANK: rank}
    rank = options.get("rank")
    if parallel is None or rank is None:
        return {}
    size = parallel.tensor_parallel_size
    return {
        keys.VLLM_DATA_PARALLEL_RANK: getattr(parallel, "data_parallel_index", parallel.data_parallel_rank),
        keys.VLLM_WORKER_RANK: rank,
        keys.VLLM_TENSOR_PARALLEL_RANK: rank % size,
        keys.VLLM_PIPELINE_PARALLEL_RANK: rank // (size * getattr(parallel, "prefill_context_parallel_size", 1)),
    }


def update(found: Mapping[str, Any]) -> None:
    """Add attributes to the resource of the global providers; in SDK 1.41, of that of metrics."""
    resource = resources.Resource({**found, keys.PROCESS_PID: os.getpid()})
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
        change = getattr(provider, "_update_resource", None)
        if change is not None:
            change(resource)
        elif (config := getattr(provider, "_sdk_config", None)) is not None:
            config.resource = config.resource.merge(resource)


def tell_child(follower: _Follower) -> None:
    """Call it with the attributes of a child of ``multiprocessing``, once that is known: in a forked one before its own
    code runs, in a spawned one when vLLM loads its plugins.
    """  # noqa: D205
    _followers.append(follower)
    multiprocessing.util.register_after_fork(follower, lambda told: told(_child()))


def tell() -> None:
    """Tell all who asked for it what this process is, if it is a child."""
    if multiprocessing.process.parent_process() is not None:
        found = _child()
        for follower in _followers:
            follower(found)
