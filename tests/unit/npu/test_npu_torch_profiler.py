"""Recordings of the torch profilers, between the steps of a model runner; torch itself is in the end-to-end test."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ascend_opentelemetry.native import parse
from ascend_opentelemetry.npu import _profiling_session
from ascend_opentelemetry.npu.operators._live import OperatorWindows
from ascend_opentelemetry.npu.operators._self_times import SelfTimes
from ascend_opentelemetry.npu.recordings._json import read
from ascend_opentelemetry.npu.recordings._sink import RecordingSink
from ascend_opentelemetry.npu.torch import _other_profilers, _profiler, _source
from ascend_opentelemetry.npu.torch._host_operators import HostOperators
from ascend_opentelemetry.npu.torch._other_profilers import WarmUp
from ascend_opentelemetry.npu.torch._profiler import HostOperator, Options, ProfilerError
from ascend_opentelemetry.npu.torch._recording import Recording
from ascend_opentelemetry.npu.torch._source import TorchSource
from ascend_opentelemetry.recorder import Forward, SourceWindow, recorder

T = 1_700_000_000 * 10**9


class FakeProfiler:
    """Notes which thread calls what."""

    name, level = "torch", ""

    def __init__(self, options: Options, *, any_thread: bool = True, refuse: str = "") -> None:
        self.options = options
        self.any_thread = any_thread
        self.folder: Path | None = None
        self.calls: list[tuple[str, int]] = []
        self._refuse = refuse

    def start(self, give_way: Callable[[], None]) -> None:
        self.give_way = give_way
        self._call("start")

    def stop(self) -> None:
        self._call("stop")
        if self.options.folder is not None:
            self.folder = self.options.folder / "torch_1"

    def _call(self, name: str) -> None:
        self.calls.append((name, threading.get_ident()))
        if name == self._refuse:
            raise ProfilerError(f"{name} is refused")

    def operators(self) -> Iterator[HostOperator]:
        yield 1, "aten::mm", T, 500


def nobody() -> None:
    """Another profiler does not start, or nothing is done."""


class Run:
    """A source with fake profilers, and what it emits."""

    def __init__(self, **options: Any) -> None:
        self.made: list[FakeProfiler] = []
        self.sessions: list[dict[str, Any]] = []
        self.ids: list[Any] = []
        self._options = options
        self.source = TorchSource(self._make)
        self.source.start(leader=True)

    def _make(self, options: Options, trace_id: int) -> FakeProfiler:
        self.made.append(FakeProfiler(options, **self._options))
        self.trace_id = trace_id
        return self.made[-1]

    def open(self, folder: Path, **fields: Any) -> None:
        config, problems = parse(json.dumps({"enable": 1, "acl_task_time": 3, **fields}), "config.json")
        assert problems == []
        self.source.open(SourceWindow(config, folder, time.time_ns()))

    def step(self, number: int = 1, *, scheduled: bool = True) -> None:
        for _ in range(number):
            if recorder.step_watcher is not None:
                recorder.step_watcher.step(scheduled)

    def emit(self, name: str, time_ns: int, attributes: dict[str, Any], **more: Any) -> None:
        self.ids.append(more.get("ids"))
        self.sessions.append({"event": name, **attributes})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    monkeypatch.setattr(_source, "IDLE_SECONDS", 0.2)
    monkeypatch.delenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", raising=False)
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/etc/prof.json")
    runs: list[Run] = []

    def make(**options: Any) -> Run:
        runs.append(Run(**options))
        monkeypatch.setattr(_profiling_session, "emit", runs[-1].emit)
        return runs[-1]

    yield make
    for one in runs:
        one.source.shutdown(5)
    assert recorder.step_watcher is None
    assert not recorder.on


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_recording_starts_and_stops_with_steps_on_their_thread(run, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    one = run()
    one.open(tmp_path)
    assert recorder.on, "else the hook of the model runner would not tell"
    assert one.made == [], "torch, or torch_npu, may not be loaded yet"
    one.step(3)
    (profiler,) = one.made
    one.source.close()
    assert [name for name, _ in profiler.calls] == ["start"]
    one.step()
    assert profiler.calls == [("start", threading.get_ident()), ("stop", threading.get_ident())]
    assert recorder.step_watcher is None
    wait(lambda: one.sessions)
    (session,) = one.sessions
    assert session.pop("npu.recording.duration") > 0
    assert session == {
        "event": "npu.profiling.session", "npu.profiler.name": "torch", "npu.recording.folder": str(tmp_path / "torch_1"),
        "npu.recording.operators": 1,
    }  # fmt: skip
    assert one.ids == [(one.trace_id, 0, 0, 1)]
    assert f"s: ascend-otel npu top {tmp_path}/torch_1" in caplog.messages[-1]
    state = one.source.describe()
    assert (state["usable"], state["recordings"], state["operators"], state["windows"]) == (True, 1, 1, 1)


def test_steps_without_requests_neither_start_it_nor_count(run, tmp_path) -> None:
    one = run()
    one.open(tmp_path, torch_prof_step_num=2)
    one.step(2, scheduled=False)
    assert one.made == []
    one.step()
    one.step(3, scheduled=False)
    one.step()
    assert [name for name, _ in one.made[0].calls] == ["start"]
    one.step()
    assert [name for name, _ in one.made[0].calls] == ["start", "stop"]
    one.step(5)
    assert len(one.made) == 1, "the window gives one recording"


def test_an_idle_worker_is_not_waited_for(run, tmp_path) -> None:
    one = run()
    one.open(tmp_path)
    one.step()
    one.source.close()
    wait(lambda: one.sessions)
    (_, starter), (_, stopper) = one.made[0].calls
    assert starter == threading.get_ident() != stopper
    assert recorder.step_watcher is None


def test_a_profiler_of_one_thread_waits_for_the_next_step(run, tmp_path) -> None:
    one = run(any_thread=False)
    one.open(tmp_path)
    one.step()
    one.source.close()
    time.sleep(0.5)
    assert [name for name, _ in one.made[0].calls] == ["start"]
    one.open(tmp_path)
    one.step()
    assert [[name for name, _ in profiler.calls] for profiler in one.made] == [["start", "stop"], ["start"]]
    one.source.close()
    one.step()
    wait(lambda: len(one.sessions) == 2)


def test_a_worker_that_ends_stops_what_it_records(run, tmp_path) -> None:
    one = run(any_thread=False)
    one.open(tmp_path)
    one.step()
    assert recorder.step_watcher is not None
    recorder.step_watcher.end()
    assert [name for name, _ in one.made[0].calls] == ["start", "stop"]
    assert len(one.sessions) == 1, "it was waited for"


def test_a_window_without_a_step_leaves_nothing(run, tmp_path) -> None:
    one = run()
    one.open(tmp_path)
    one.source.close()
    assert recorder.step_watcher is None
    assert not recorder.on
    assert one.made == []
    assert one.source.describe() == {}


@pytest.mark.parametrize("way", [0, 1, 2])
def test_other_ways_are_not_its_own(run, tmp_path, way) -> None:
    one = run()
    one.open(tmp_path, acl_task_time=way)
    assert one.made == []
    assert recorder.step_watcher is None


@pytest.mark.parametrize("refuse", ["start", "stop"])
def test_a_profiler_that_refuses_is_one_warning(run, tmp_path, caplog, refuse) -> None:
    one = run(refuse=refuse)
    for _ in range(2):
        one.open(tmp_path)
        one.step(2)
        one.source.close()
        one.step()
    wait(lambda: not any(thread.is_alive() for thread in one.source._threads))
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.getMessage() == (
        f'/etc/prof.json: "acl_task_time": 3: operators are not recorded: {refuse} is refused'
    )
    assert one.source.describe()["reason"] == f"{refuse} is refused"
    assert one.sessions == []


def test_a_refusal_is_forgotten_when_a_recording_works(run, tmp_path) -> None:
    one = run(refuse="start")
    one.open(tmp_path)
    one.step(2)
    assert one.source.describe()["reason"] == "start is refused"
    one.source.close()
    one._options["refuse"] = ""
    one.open(tmp_path)
    one.step(2)
    one.source.close()
    one.step()
    wait(lambda: one.sessions)
    state = one.source.describe()
    assert (state.get("reason"), state["usable"]) == (None, True)


def test_a_sample_that_is_refused_names_the_variable(run, monkeypatch, caplog) -> None:
    monkeypatch.setattr(_source, "SAMPLE_PERIOD", 0.05)
    one = run(refuse="start")
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", "torch")
    one.source.start(leader=False)
    wait(lambda: recorder.step_watcher)
    one.step()
    assert caplog.messages == ["OTEL_PYTHON_VLLM_NPU_OPERATORS=torch: operators are not recorded: start is refused"]


def test_a_recording_ends_before_another_profiler_starts(run, tmp_path, caplog) -> None:
    one = run(any_thread=False)
    one.open(tmp_path)
    one.step(2)
    one.made[0].give_way()
    assert [name for name, _ in one.made[0].calls] == ["start", "stop"]
    assert caplog.messages == ["a recording of operators ends early: another profiler of torch starts in this process"]
    one.step(2)
    assert len(one.made) == 1
    wait(lambda: one.sessions)
    one.source.close()


def test_another_profiler_is_refused_where_its_thread_may_not_end_ours(run, tmp_path) -> None:
    one = run(any_thread=False)
    one.open(tmp_path)
    one.step()
    refused: list[RuntimeError] = []

    def start() -> None:
        try:
            one.made[0].give_way()
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(10)
    assert [str(error) for error in refused] == [
        "Profiler is already enabled by ascend-opentelemetry in another thread"
    ]
    one.source.close()
    one.step()
    assert [name for name, _ in one.made[0].calls] == ["start", "stop"]


class Torch:
    """As much of torch as its profiler needs; notes what is done, in this order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.exit: Callable[[], None] = nobody
        self.profiler: Any = ModuleType("torch.autograd.profiler")
        self.profiler._is_profiler_enabled = False
        self.profiler._prepare_profiler = lambda: self.done.append("prepare")
        self.profiler._disable_profiler = lambda: self.done.append("disable")
        self.profiler.profile = lambda **_: SimpleNamespace(
            __enter__=nobody, __exit__=lambda *_: self.exit(), kineto_results=SimpleNamespace(events=list)
        )
        modules = {
            "torch.autograd.profiler": self.profiler,
            "torch.autograd": SimpleNamespace(_add_metadata_json=lambda *_: None),
            "torch._C._profiler": SimpleNamespace(_ExperimentalConfig=lambda profile_all_threads: None),
        }
        for name, module in modules.items():
            monkeypatch.setitem(_profiler.sys.modules, name, module)


@pytest.fixture
def warm_up(monkeypatch: pytest.MonkeyPatch) -> WarmUp:
    new = WarmUp()
    monkeypatch.setattr(_other_profilers, "warm_up", new)
    return new


def test_another_profiler_that_warms_up_is_not_disturbed(monkeypatch, warm_up) -> None:
    torch = Torch(monkeypatch)
    TorchSource().start(leader=True)
    profiler = _profiler.make(Options(), 5)
    torch.profiler._prepare_profiler()
    with pytest.raises(ProfilerError, match="another profiler of torch records or warms up in this process"):
        profiler.start(nobody)
    torch.profiler._disable_profiler()
    profiler.start(nobody)
    profiler.stop()
    assert torch.done == ["prepare", "disable"]


def test_a_warm_up_that_fails_is_none(monkeypatch, warm_up) -> None:
    torch = Torch(monkeypatch)

    def fail() -> None:
        raise RuntimeError("no Kineto")

    torch.profiler._prepare_profiler = fail
    warm_up.watch()
    with pytest.raises(RuntimeError, match="no Kineto"):
        torch.profiler._prepare_profiler()
    assert not _other_profilers.is_running()


def test_a_torch_is_watched_once_and_may_lack_the_functions(monkeypatch, warm_up) -> None:
    torch = Torch(monkeypatch)
    disable = torch.profiler._disable_profiler
    del torch.profiler._disable_profiler
    warm_up.watch()
    watched = torch.profiler._prepare_profiler
    assert not hasattr(torch.profiler, "_disable_profiler")
    torch.profiler._disable_profiler = disable
    warm_up.watch()
    assert (torch.profiler._prepare_profiler, torch.profiler._disable_profiler) == (watched, disable)


def test_another_profiler_waits_while_ours_ends(monkeypatch, caplog) -> None:
    torch = Torch(monkeypatch)
    recording = Recording(lambda: _profiler.make(Options(), 5), 5, 0)
    recording.step(True)
    other = threading.Thread(target=lambda: torch.profiler._prepare_profiler())

    def exit_() -> None:
        other.start()
        other.join(0.2)
        torch.done.append("exit")

    torch.exit = exit_
    assert recording.end_now()
    other.join(10)
    assert torch.done == ["exit", "prepare"]
    assert (recording.problem, caplog.messages) == ("", []), "it did not end for that one"


def test_other_profilers_are_not_watched_any_more_where_ours_fails_to_end(monkeypatch) -> None:
    torch = Torch(monkeypatch)
    prepare = torch.profiler._prepare_profiler
    recording = Recording(lambda: _profiler.make(Options(), 5), 5, 0)
    recording.step(True)
    assert torch.profiler._prepare_profiler is not prepare

    def fail() -> None:
        raise RuntimeError("it is lost")

    torch.exit = fail
    recording.end_now()
    assert recording.problem == "torch's profiler has given no recording: it is lost"
    assert torch.profiler._prepare_profiler is prepare


def test_the_fields_of_the_config_file_reach_the_profiler(run, tmp_path) -> None:
    one = run()
    one.open(tmp_path, torch_prof_stack=True, torch_prof_modules=True, acl_prof_task_time_level="L1")
    one.step()
    assert one.made[0].options == Options(tmp_path, True, True, "L1", "ACL_AICORE_PIPE_UTILIZATION")


def test_without_a_window_ten_steps_are_sampled_and_nothing_is_written(run, monkeypatch) -> None:
    monkeypatch.setattr(_source, "SAMPLE_PERIOD", 0.05)
    one = run()
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", "torch")
    one.source.start(leader=False)
    wait(lambda: recorder.step_watcher)
    one.step(10)
    assert one.made[0].options == Options()
    assert [name for name, _ in one.made[0].calls] == ["start"]
    one.step()
    assert [name for name, _ in one.made[0].calls] == ["start", "stop"]
    wait(lambda: recorder.step_watcher)
    one.step()
    assert len(one.made) == 2
    wait(lambda: one.source.describe().get("operators") == 1)
    assert one.sessions == []


@pytest.mark.parametrize("steps", [0, 3], ids=["that waits for a step", "that records"])
def test_a_sample_makes_way_for_a_window(run, tmp_path, monkeypatch, caplog, steps) -> None:
    monkeypatch.setattr(_source, "SAMPLE_PERIOD", 0.05)
    one = run()
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", "torch")
    one.source.start(leader=False)
    wait(lambda: recorder.step_watcher)
    one.step(steps)
    one.open(tmp_path)
    one.step(2)
    calls = [[name for name, _ in profiler.calls] for profiler in one.made]
    assert calls == [["start", "stop"], ["start"]][-2 if steps else -1 :]
    assert one.made[-1].options.folder == tmp_path
    assert caplog.messages == []
    one.source.close()
    one.step()
    wait(lambda: one.sessions)


def test_an_end_does_not_wait_for_a_step_that_starts_the_profiler(run, tmp_path, monkeypatch) -> None:
    one = run()
    starting, started = threading.Event(), threading.Event()

    def start(_profiler: FakeProfiler, _give_way: Callable[[], None]) -> None:
        starting.set()
        assert started.wait(10)
        time.sleep(0.02)

    monkeypatch.setattr(FakeProfiler, "start", start)
    one.open(tmp_path)
    stepping = threading.Thread(target=one.step)
    stepping.start()
    assert starting.wait(10)
    one.source.close()
    assert stepping.is_alive()
    started.set()
    stepping.join(10)
    one.step()
    assert [name for name, _ in one.made[0].calls] == ["stop"]
    wait(lambda: one.sessions)
    state = one.source.describe()
    assert state["longest_start_seconds"] >= 0.02, "the step has waited for it"
    assert 0 <= state["longest_stop_seconds"] < state["longest_start_seconds"]


def test_a_step_goes_on_where_no_thread_can_be_started(run, tmp_path, monkeypatch, caplog) -> None:
    one = run()
    one.open(tmp_path)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        one.step()
    assert caplog.messages == [
        '/etc/prof.json: "acl_task_time": 3: operators are not recorded: RuntimeError: can\'t start new thread'
    ]
    one.source.close()
    one.step()
    assert [name for name, _ in one.made[0].calls] == ["start", "stop"]
    assert recorder.step_watcher is None


def test_a_sample_of_a_worker_that_falls_idle_ends(run, monkeypatch) -> None:
    monkeypatch.setattr(_source, "SAMPLE_PERIOD", 0.05)
    monkeypatch.setattr(_source, "SAMPLE_SECONDS", 0.1)
    one = run()
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", "torch")
    one.source.start(leader=False)
    wait(lambda: recorder.step_watcher)
    one.step(3)
    wait(lambda: [name for name, _ in one.made[0].calls] == ["start", "stop"])


def test_a_forked_child_forgets_the_parents_recording(run, tmp_path) -> None:
    one = run()
    one.open(tmp_path)
    one.source.after_fork()
    assert recorder.step_watcher is None
    one.step()
    assert one.made == []


def test_operators_of_two_recordings_are_given_one_after_the_other(monkeypatch) -> None:
    operators = HostOperators()
    operators.hurried = True
    inside: list[int] = []
    most: list[int] = []

    def add(rows: list[tuple[str, int, int]]) -> None:
        inside.append(len(rows))
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()

    monkeypatch.setattr(operators, "_add", add)
    threads = [threading.Thread(target=operators.give, args=([(1, "aten::mm", T, 500)],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (most, operators.given) == ([1, 1, 1], 3)


def test_self_times_add_up_to_the_time_of_the_outermost() -> None:
    found: list[tuple[str, int, int]] = []
    times = SelfTimes[str](lambda name, start, own: found.append((name, start, own)))
    for thread, name, start, duration in (
        (1, "linear", 100, 50), (1, "t", 105, 10), (1, "transpose", 107, 5), (2, "other", 108, 100), (1, "addmm", 120, 30),
        (1, "relu", 150, 7),
    ):  # fmt: skip
        times.add(thread, name, start, duration)
    times.end()
    assert sorted(found) == [
        ("addmm", 120, 30), ("linear", 100, 10), ("other", 108, 100), ("relu", 150, 7), ("t", 105, 5), ("transpose", 107, 5),
    ]  # fmt: skip


def test_operators_belong_to_the_forward_that_executed_them() -> None:
    events: list[tuple[Any, dict[str, Any], Any]] = []
    forward = Forward(T, T + 1000, (7, 8, 9, 1))
    operators = HostOperators()
    operators._windows = OperatorWindows(
        emit=lambda name, time_ns, attributes, body, ids: events.append((ids, attributes, body)),
        known=lambda after: [forward] if forward.end_ns > after else [],
    )
    given = [
        (1, "aten::mm", T + 300, 200), (1, "aten::linear", T + 200, 400), (1, "aten::mm", T + 5_000_000, 100),
    ]  # fmt: skip
    assert operators.give(iter(given)) == 3
    assert operators.given == 3
    by_forward = {ids is not None: (ids, attributes, body) for ids, attributes, body in events}
    ids, attributes, body = by_forward[True]
    assert ids == forward.ids
    assert attributes["npu.operator.count"] == 2
    assert attributes["npu.operator.time"] == 400 / 1e9
    assert [(one["type"], one["core"], one["time"]) for one in body["operators"]] == [
        ("aten::linear", "CPU", 200 / 1e9), ("aten::mm", "CPU", 200 / 1e9),
    ]  # fmt: skip
    assert by_forward[False][1]["npu.operator.count"] == 1


class Sink(RecordingSink):
    """Takes operators."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Any, int, int]] = []

    def wants(self, kind: str) -> bool:
        return kind == "operators"

    def operators(self, raw: Any, starts: Any, durations: Any, steps: Any = None) -> None:
        self.found += zip(raw, starts, durations, strict=True)


def write_trace(path: Path, *, base: int | None) -> Path:
    def event(category: str, name: str, start: float, duration: float) -> dict[str, Any]:
        return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 2, "ts": start, "dur": duration, "args": {}}

    events = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "ts": 0, "args": {"name": "python"}},
        event("python_function", "run.py(1): main", 0, 100),
        event("cpu_op", "aten::linear", 1.001, 10),
        event("cpu_op", "aten::mm", 2.5, 4.25),
        event("user_annotation", "step", 3, 1),
    ]
    times = {} if base is None else {"baseTimeNanoseconds": base}
    path.write_text(json.dumps({"schemaVersion": 1, **times, "traceEvents": events}))
    return path


def test_a_trace_of_torch_is_read_with_absolute_times_and_self_times(tmp_path) -> None:
    sink = Sink()
    read(write_trace(tmp_path / "trace_view.json", base=T), sink, lambda share: None)
    assert sorted(sink.found) == [
        (("aten::linear", None, "CPU", ""), T + 1001, 5750), (("aten::mm", None, "CPU", ""), T + 2500, 4250),
    ]  # fmt: skip


def test_host_operators_beside_those_of_an_npu_are_not_counted_again(tmp_path) -> None:
    sink = Sink()
    read(write_trace(tmp_path / "trace_view.json", base=None), sink, lambda share: None)
    assert sink.found == []


class TorchNpu:
    """As much of ``torch_npu`` as a recording needs: it makes the folder when it ends, prints errors, raises nothing."""

    def __init__(self, *, trace_ids: bool = True, writes: bool = True) -> None:
        module: Any = ModuleType("torch_npu.profiler")
        module.made = made = []

        class Profile:
            def __init__(self, activities, on_trace_ready, record_shapes, with_stack, with_modules, experimental_config,
                         custom_trace_id_callback=None) -> None:  # fmt: skip
                self.arguments = {name: value for name, value in locals().items() if name not in ("self", "made")}
                self.metadata: dict[str, str] = {}
                made.append(self)

            def start(self) -> None: ...

            def add_metadata(self, key: str, value: str) -> None:
                self.metadata[key] = value

            def stop(self) -> None:
                if writes:
                    import os

                    Path(self.arguments["on_trace_ready"], f"host_{os.getpid()}_1_ascend_pt").mkdir()

        class OldProfile(Profile):
            def __init__(self, activities, on_trace_ready, record_shapes, with_stack, with_modules, experimental_config
                         ) -> None:  # fmt: skip
                super().__init__(
                    activities, on_trace_ready, record_shapes, with_stack, with_modules, experimental_config
                )

        module.profile = Profile if trace_ids else OldProfile
        module.tensorboard_trace_handler = lambda folder, analyse_flag: folder if not analyse_flag else ""
        module._ExperimentalConfig = lambda **options: options
        module.ProfilerActivity = SimpleNamespace(CPU="cpu", NPU="npu")
        module.ExportType = SimpleNamespace(Text="text")
        module.ProfilerLevel = SimpleNamespace(Level0="Level0", Level1="Level1")
        module.AiCMetrics = SimpleNamespace(AiCoreNone="none", PipeUtilization="pipe", MemoryUB="ub")
        self.profiler = module


def npu_profiler(monkeypatch: pytest.MonkeyPatch, torch_npu: TorchNpu, options: Options) -> Any:
    monkeypatch.setitem(_profiler.sys.modules, "torch_npu", torch_npu)  # type: ignore[arg-type]
    return _profiler.make(options, 0xABC)


def test_torch_npu_records_where_it_is_loaded(tmp_path, monkeypatch) -> None:
    torch_npu = TorchNpu()
    options = Options(tmp_path / "date", stack=True, level="L1", aicore_metrics="ACL_AICORE_MEMORY_UB")
    profiler = npu_profiler(monkeypatch, torch_npu, options)
    assert (profiler.name, profiler.level, profiler.any_thread) == ("torch_npu", "L1", False)
    profiler.start(nobody)
    profiler.stop()
    assert profiler.folder is not None
    assert profiler.folder.parent == tmp_path / "date"
    assert profiler.folder.name.endswith("_ascend_pt")
    (profile,) = torch_npu.profiler.made
    arguments = profile.arguments
    assert arguments.pop("custom_trace_id_callback")() == f"{0xABC:032x}"
    assert profile.metadata == {"otel_trace_id": f"{0xABC:032x}"}
    assert arguments == {
        "activities": ["cpu", "npu"], "on_trace_ready": str(tmp_path / "date"), "record_shapes": True,
        "with_stack": True, "with_modules": False,
        "experimental_config": {
            "export_type": "text", "profiler_level": "Level1", "aic_metrics": "ub", "data_simplification": False,
        },
    }  # fmt: skip
    assert list(profiler.operators()) == []


def test_an_older_torch_npu_has_the_trace_id_in_its_metadata_alone(tmp_path, monkeypatch) -> None:
    torch_npu = TorchNpu(trace_ids=False)
    profiler = npu_profiler(monkeypatch, torch_npu, Options(tmp_path, aicore_metrics="ACL_AICORE_PIPE_UTILIZATION"))
    profiler.start(nobody)
    profiler.stop()
    (profile,) = torch_npu.profiler.made
    assert profile.metadata == {"otel_trace_id": f"{0xABC:032x}"}
    assert profile.arguments["experimental_config"]["profiler_level"] == "Level0"
    assert profile.arguments["experimental_config"]["aic_metrics"] == "none", "Level0 has no metrics"


def test_a_recording_of_torch_npu_that_is_not_there_is_an_error(tmp_path, monkeypatch) -> None:
    profiler = npu_profiler(monkeypatch, TorchNpu(writes=False), Options(tmp_path))
    profiler.start(nobody)
    with pytest.raises(ProfilerError, match=f"no recording below {tmp_path}"):
        profiler.stop()


def test_samples_are_of_the_host_also_where_torch_npu_is_loaded(monkeypatch) -> None:
    host = ModuleType("torch._C._profiler")
    host._ExperimentalConfig = lambda profile_all_threads: None  # type: ignore[attr-defined]
    monkeypatch.setattr(_profiler, "import_module", lambda name: host)
    assert npu_profiler(monkeypatch, TorchNpu(), Options()).name == "torch"
