"""The profilers of torch and torch_npu: start, stop, and what is there then."""

from __future__ import annotations

import inspect
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from ascend_opentelemetry.npu.torch import _other_profilers

#: Key of the OTel trace id in the metadata of a recording.
TRACE_ID_KEY = "otel_trace_id"
#: The file of a recording of torch; as torch_npu names its own, which readers look for.
TRACE_FILE = "trace_view.json"

#: ``aclprofAicoreMetrics`` of the config file -> name in ``torch_npu.profiler.AiCMetrics``.
_AICORE_METRICS = {
    "ACL_AICORE_PIPE_UTILIZATION": "PipeUtilization",
    "ACL_AICORE_MEMORY_BANDWIDTH": "Memory",
    "ACL_AICORE_L0B_AND_WIDTH": "MemoryL0",
    "ACL_AICORE_RESOURCE_CONFLICT_RATIO": "ResourceConflictRatio",
    "ACL_AICORE_MEMORY_UB": "MemoryUB",
    "ACL_AICORE_L2_CACHE": "L2Cache",
}


class ProfilerError(Exception):
    """A profiler that cannot start, or has given nothing; the text says what to do."""


class Options(NamedTuple):
    """What a recording is to hold.

    Attributes:
        folder: absolute path of the date folder, below which it is written; None: it is not.
        stack: call stacks.
        modules: module hierarchy.
        level: ``L0`` or ``L1``.
        aicore_metrics: as in the config file.
    """

    folder: Path | None = None
    stack: bool = False
    modules: bool = False
    level: str = "L0"
    aicore_metrics: str = "ACL_AICORE_NONE"


#: An operator on the host: number of the thread, name, start in ns since 1970, duration in ns with that of its callees.
#: A plain tuple: the garbage collector, which stops the steps, soon forgets it.
HostOperator: TypeAlias = tuple[int, str, int, int]


class Profiler(Protocol):
    """A profiler of this process, for one recording.

    Attributes:
        name: ``torch`` or ``torch_npu``.
        level: that it was given; empty where it knows none.
        any_thread: whether ``stop`` may be called by another thread than ``start``.
        folder: of the recording, once stopped; None where it was not written.
    """

    name: str
    level: str
    any_thread: bool
    folder: Path | None

    def start(self, give_way: Callable[[], None]) -> None:
        """Begin to record.

        Args:
            give_way: called when another profiler is about to start, in its thread; ``stop`` is called in it.

        Raises:
            ProfilerError: it cannot, for instance because another profiler runs.
        """
        ...

    def stop(self) -> None:
        """Record no more, and write the recording.

        Raises:
            ProfilerError: there is none.
        """
        ...

    def operators(self) -> Iterator[HostOperator]:
        """The operators of the recording, once stopped, in no order."""
        ...


def make(options: Options, trace_id: int) -> Profiler:
    """The profiler of torch_npu where that is loaded and a recording is to be written, else that of torch.

    Args:
        options: of the recording.
        trace_id: for its metadata.
    """
    if options.folder is not None and "torch_npu" in sys.modules:
        return _NpuProfiler(sys.modules["torch_npu"], options, options.folder, f"{trace_id:032x}")
    return _HostProfiler(options, f"{trace_id:032x}")


class _HostProfiler:
    """``torch.autograd.profiler.profile`` with Kineto: the operators that the host executes, or launches."""

    name = "torch"
    level = ""

    def __init__(self, options: Options, trace_id: str) -> None:
        self.folder: Path | None = None
        self._options = options
        self._trace_id = trace_id
        self._events: list[Any] = []
        config = _every_thread()
        # the tracer of Python's calls keeps state in the thread that it was started by
        self.any_thread = config is not None and not (options.stack or options.modules)
        self._config = config
        self._profile: Any = None
        self._precedence: _other_profilers.Precedence | None = None

    def start(self, give_way: Callable[[], None]) -> None:
        if _other_profilers.is_running():
            raise ProfilerError(
                "another profiler of torch records or warms up in this process (vLLM's /start_profile, torch.profiler): "
                "end that one first"
            )
        profile = import_module("torch.autograd.profiler").profile
        options = self._options
        self._profile = profile(
            use_kineto=True,
            with_stack=options.stack,
            with_modules=options.modules,
            experimental_config=self._config,
        )
        try:
            self._profile.__enter__()
        except RuntimeError as error:
            raise ProfilerError(f"torch's profiler cannot start: {_first_line(error)}") from error
        import_module("torch.autograd")._add_metadata_json(TRACE_ID_KEY, json.dumps(self._trace_id))
        self._precedence = _other_profilers.Precedence(give_way)
        self._precedence.begin()

    def stop(self) -> None:
        try:
            self._exit()
            self._events = self._profile.kineto_results.events()
            if self._options.folder is not None:
                self.folder = self._write(self._options.folder)
        except (RuntimeError, OSError) as error:
            raise ProfilerError(f"torch's profiler has given no recording: {_first_line(error)}") from error
        finally:
            self._profile = None

    def _exit(self) -> None:
        """Until it is done, who starts another profiler waits."""
        try:
            self._profile.__exit__(None, None, None)
        finally:
            if self._precedence is not None:
                self._precedence.end()

    def _write(self, below: Path) -> Path:
        folder = below / f"torch_{socket.gethostname()}_{os.getpid()}_{time.time_ns() // 1_000_000}"
        folder.mkdir(0o750, parents=True, exist_ok=True)
        file = folder / TRACE_FILE
        self._profile.kineto_results.save(str(file))
        file.chmod(0o640)  # raises where the library, which only logs it, could not write
        return folder

    def operators(self) -> Iterator[HostOperator]:
        for event in self._events:
            if not event.is_user_annotation() and not event.is_python_function():
                yield event.start_thread_id(), event.name(), event.start_ns(), event.duration_ns()
        self._events = []


def _every_thread() -> Any:
    """The option by which the recording is of all threads, and any may end it; None where torch has none."""
    try:
        return import_module("torch._C._profiler")._ExperimentalConfig(profile_all_threads=True)
    except TypeError:
        return None


class _NpuProfiler:
    """``torch_npu.profiler.profile``: host and NPU, raw until it is analysed; it records and ends in one thread."""

    name = "torch_npu"
    any_thread = False

    def __init__(self, torch_npu: Any, options: Options, below: Path, trace_id: str) -> None:
        self.level = options.level
        self.folder: Path | None = None
        self._module = torch_npu.profiler
        self._options = options
        self._below = below
        self._trace_id = trace_id
        self._before: set[Path] = set()
        self._profile: Any = None

    def start(self, give_way: Callable[[], None]) -> None:  # noqa: ARG002 - torch_npu refuses the others
        module, options = self._module, self._options
        try:
            self._below.mkdir(0o750, parents=True, exist_ok=True)
            self._before = self._folders()
            self._profile = module.profile(
                activities=[module.ProfilerActivity.CPU, module.ProfilerActivity.NPU],
                on_trace_ready=module.tensorboard_trace_handler(str(self._below), analyse_flag=False),
                record_shapes=True,
                with_stack=options.stack,
                with_modules=options.modules,
                experimental_config=self._experimental(),
                **self._trace_id_callback(),
            )
            self._profile.start()
            self._profile.add_metadata(TRACE_ID_KEY, self._trace_id)
        except Exception as error:
            raise ProfilerError(f"torch_npu's profiler cannot start: {_first_line(error)}") from error

    def _experimental(self) -> Any:
        module = self._module
        detailed = self.level == "L1"
        metrics = _AICORE_METRICS.get(self._options.aicore_metrics, "") if detailed else ""
        return module._ExperimentalConfig(
            export_type=module.ExportType.Text,
            profiler_level=module.ProfilerLevel.Level1 if detailed else module.ProfilerLevel.Level0,
            aic_metrics=getattr(module.AiCMetrics, metrics or "AiCoreNone"),
            data_simplification=False,
        )

    def _trace_id_callback(self) -> dict[str, Any]:
        """Since torch_npu 2.13 the trace id of a recording is the caller's to choose."""
        known = inspect.signature(self._module.profile.__init__).parameters
        return {"custom_trace_id_callback": lambda: self._trace_id} if "custom_trace_id_callback" in known else {}

    def stop(self) -> None:
        try:
            self._profile.stop()
        except Exception as error:
            raise ProfilerError(f"torch_npu's profiler has given no recording: {_first_line(error)}") from error
        finally:
            self._profile = None
        made = self._folders() - self._before
        if not made:
            # it prints why, and raises nothing
            raise ProfilerError(f"torch_npu's profiler has given no recording below {self._below}: see what it printed")
        self.folder = max(made)

    def _folders(self) -> set[Path]:
        return set(self._below.glob(f"*_{os.getpid()}_*_ascend_pt"))

    def operators(self) -> Iterator[HostOperator]:
        yield from ()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().partition("\n")[0][:200]
