"""The symbols files of the field and the guide's example, one after another on one server, and the rest of its switches.

The file that ``PROFILING_SYMBOLS_PATH`` names changes while the server runs; each change applies when profiling is
turned on the next time. The platform is the stand-in for vllm-ascend. ``docs/field-symbols.md`` is what this run gave.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ascend_opentelemetry import symbols
from devtools.otlp_json import Span
from tests.support import field_symbols
from tests.support.contract import check, read_meta
from tests.support.field_symbols import COUNTER, FILES, FOLDER, STAND_IN, Entry, Window
from tests.support.service import WITNESS, Service, serve

GUIDE = Path(__file__).parents[3] / "shared" / "reference" / "service-profiling-guide.md"
SCOPE = "ascend_opentelemetry."
GUIDES, ERROR, LIMIT = "example of the guide", "level ERROR", "time limit"
PROCESSES, REQUESTS, TOKENS = 3, 3, 8
STEPS = REQUESTS * TOKENS
#: Rows of a built-in handler where they are not one a call: a step without tokens leaves none.
ROWS_OF_BUILTINS = {
    "add_request": 2 * REQUESTS,  # beginning and length of the queue
    "async_add_request": REQUESTS,
    "execute_model": STEPS,
    "get_computed_blocks": REQUESTS,
    "kv_free": REQUESTS,
    "model_runner": STEPS,
    "process_outputs": REQUESTS,
    "record_function": STEPS,
    "schedule": STEPS,
}
#: Spans of a traced step that are there without any symbol, and are called as a timer of the field files.
SPANS_OF_OURS = {"Execute/sample": STEPS, "Execute/modelRunnerExec": STEPS}

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the symbols files of other packages are not here"),
]


@dataclass
class Fielded:
    """The run, its windows by name, and what was seen on the way."""

    service: Service
    symbols: Path
    windows: dict[str, Window] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    #: What the status files of the processes said of their hooks in each window.
    hooks: dict[str, list[dict[str, list[str]]]] = field(default_factory=dict)
    #: Text of the configuration when profiling was turned on with a time limit, and after it had ended.
    limited: tuple[str, str] = ("", "")

    def turn_on(self, name: str, text: str | None = None, **fields: object) -> None:
        """Put the symbols into the file, turn profiling on and wait until all processes have it."""
        window = self.windows[name] = Window(name, self.service.folder / re.sub(r"\W", "-", name))
        if text is not None:
            self.symbols.write_text(text)
        window.start = time.time_ns()
        self.service.config.write_text(json.dumps({"enable": 1, "prof_dir": str(window.folder), **fields}))
        self._wait("Profiler Enabled Successfully!")

    def note_hooks(self, name: str) -> None:
        """Wait until the status files of all processes are of this window, and keep what they say of the hooks."""
        deadline = time.monotonic() + 20
        while True:
            statuses = [json.loads(file.read_text()) for file in self.symbols.parent.glob("ascend-otel/*.json")]
            files = [Path(status["native"]["file"] or "") for status in statuses]
            if sum(file.is_relative_to(self.windows[name].folder) for file in files) == PROCESSES:
                break
            assert time.monotonic() < deadline, files
            time.sleep(0.05)
        self.hooks[name] = [status["hooks"] for status in statuses]

    def turn_off(self, name: str) -> None:
        self.service.config.write_text('{"enable": 0}')
        self.await_end(name)

    def await_end(self, name: str) -> None:
        """Wait until all processes have turned profiling off."""
        self._wait("Profiler Disabled Successfully!")
        self.windows[name].end = time.time_ns()

    def _wait(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while self.service.server.log().count(text) < len(self.windows) * PROCESSES:
            assert time.monotonic() < deadline, f"{text} is not in the log of all processes"
            time.sleep(0.02)


def ask(service: Service) -> None:
    for number in range(REQUESTS - 1):
        service.client.completion(f"hello {number}", max_tokens=TOKENS, ignore_eos=True)
    service.client.chat(max_tokens=TOKENS, ignore_eos=True)
    settle(service)


def settle(service: Service) -> None:
    """Wait for the step without tokens after the last request."""
    size = -1
    while size != (size := sum(path.stat().st_size for path in service.folder.glob("witness/*"))):
        time.sleep(0.15)


def example_of_the_guide() -> str:
    """The symbol of section 2.4, with the three attributes, as it is written there."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (text,) = [block for block in blocks if "attr dp_rank" in block]
    return text


@pytest.fixture(scope="module")
def fielded(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Fielded:
    folder = tmp_path_factory.mktemp("field-symbols")
    checks = field_symbols.Checks(vllm_python)
    path = folder / "symbols.yaml"
    path.write_bytes((FOLDER / FILES[0]).read_bytes())  # its EngineCore.step is kept at the start
    env = {
        "PROFILING_SYMBOLS_PATH": str(path),
        "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (WITNESS, STAND_IN, COUNTER))),
        "CALL_COUNTER_TARGETS": json.dumps(field_symbols.counter_targets()),
        "XDG_RUNTIME_DIR": str(folder),
    }
    with serve(folder / "server", vllm_python, tiny_model, config='{"enable": 0}', env=env) as service:
        run = Fielded(service, path)
        service.client.completion(max_tokens=2)
        settle(service)
        for name in FILES:
            run.turn_on(name, (FOLDER / name).read_text())
            ask(service)
            run.note_hooks(name)
            run.turn_off(name)
        run.turn_on(GUIDES, example_of_the_guide())
        service.client.completion("hello", n=2, temperature=1, seed=1, max_tokens=TOKENS, ignore_eos=True)
        settle(service)
        run.turn_off(GUIDES)
        run.turn_on(ERROR, profiler_level="ERROR")
        ask(service)
        run.turn_off(ERROR)
        run.turn_on(LIMIT, timelimit=1, mine="kept")
        before = service.config.read_text()
        ask(service)
        run.await_end(LIMIT)
        ask(service)
        run.limited = before, service.config.read_text()
    for name in FILES:
        verdicts = checks.verdicts(name)
        run.entries[name] = field_symbols.entries(service, run.windows[name], verdicts, run.hooks[name])
    return run


def is_timer(entry: Entry) -> bool:
    return isinstance(symbols.resolve_handler(entry.symbol), symbols.Timer)


def spans(run: Fielded, name: str) -> list[Span]:
    """Spans of our scopes that began in a window, in order."""
    window = run.windows[name]
    found = [span for span in run.service.spans() if span.scope.startswith(SCOPE)]
    return sorted((span for span in found if window.start < span.start < window.end), key=lambda span: span.start)


def test_the_page_says_what_the_run_gave(fielded: Fielded) -> None:
    field_symbols.compare(fielded.entries, {name: fielded.windows[name].names() for name in FILES})


@pytest.mark.parametrize("name", FILES)
def test_symbols_check_says_by_source_what_the_processes_do(fielded: Fielded, name: str) -> None:
    for entry in fielded.entries[name]:
        if entry.verdict["status"] == "skipped" or field_symbols.is_absent(entry.verdict):
            expected = {"absent"}
        elif entry.verdict["status"] == "ok":
            # what a built-in handler needs may be hooked elsewhere
            expected = {"installed"} if is_timer(entry) else {"installed", "absent"}
        else:
            expected = {"left_out"}
        assert entry.state in expected, entry.symbol.target


@pytest.mark.parametrize("name", FILES)
def test_every_timer_has_a_row_for_each_call(fielded: Fielded, name: str) -> None:
    rows = fielded.windows[name].names()
    timers = {entry.row: entry.calls for entry in fielded.entries[name] if is_timer(entry)}
    assert len(timers) == sum(map(is_timer, fielded.entries[name])), "two timers of one name cannot be told apart"
    assert {row: rows[row] for row in timers} == timers


@pytest.mark.parametrize("name", FILES)
def test_handlers_of_absent_packages_are_the_built_in_ones(fielded: Fielded, name: str) -> None:
    rows = fielded.windows[name].names()
    found = {}
    for entry in fielded.entries[name]:
        handler = symbols.resolve_handler(entry.symbol)
        if isinstance(handler, symbols.Builtin) and entry.row and entry.calls:
            found[handler.name] = rows[entry.row]
    assert found == {handler: count for handler, count in ROWS_OF_BUILTINS.items() if handler in found}
    assert found.keys() >= {"schedule", "execute_model", "async_add_request", "process_outputs", "kv_free"}
    folder = fielded.windows[name].folder
    # of the API server, EngineCore and the worker, for the handlers of the data parallel rank
    assert sorted(read_meta(file)["dpRankId"] for file in folder.rglob("*.db")) == ["-1", "0", "0"]
    assert check(folder, complete=True) == []


@pytest.mark.parametrize("name", FILES)
def test_rows_of_other_files_are_gone_after_the_change(fielded: Fielded, name: str) -> None:
    mine = {entry.row for entry in fielded.entries[name]}
    others = {entry.row for file in FILES for entry in fielded.entries[file]} - mine
    assert [row for row in fielded.windows[name].names() if row in others] == []


@pytest.mark.parametrize("name", FILES)
def test_every_timer_has_a_span_for_each_call(fielded: Fielded, name: str) -> None:
    found = Counter(f"{span.scope.removeprefix(SCOPE)}/{span.name}" for span in spans(fielded, name))
    timers = {entry.row: entry.calls for entry in fielded.entries[name] if is_timer(entry)}
    own = {row: SPANS_OF_OURS.get(row, 0) for row in timers}
    assert {row: found[row] - own[row] for row in timers} == timers


def test_nothing_failed(fielded: Fielded) -> None:
    assert [hooks["switched_off"] for name in FILES for hooks in fielded.hooks[name]] == [[]] * 3 * PROCESSES
    log = fielded.service.server.log().splitlines()
    ours = [line for line in log if "[ascend_opentelemetry" in line and line.startswith(("WARNING", "ERROR"))]
    expected = (
        "does not exist in this version",
        "in native files: msserviceprofiler keeps that name for itself",
        "\"mine\": 'kept' is no known field",
    )
    assert [line for line in ours if not any(text in line for text in expected)] == []


def test_the_example_of_the_guide_is_a_row_and_a_span(fielded: Fielded) -> None:
    window = fielded.windows[GUIDES]
    steps = [step for step in fielded.service.witness("step") if window.start < step["time"] < window.end]
    batches = [len(step["tokens"]) for step in steps]
    assert 2 in batches
    found = [span for span in spans(fielded, GUIDES) if span.name == "ModelRunnerExecuteModel"]
    assert {span.scope for span in found} == {f"{SCOPE}ModelExecute"}
    # after the last request comes a step without tokens
    assert [span.attributes for span in found] == [
        {"device": "cpu", "dp": "0", "batch_size": batch} for batch in [*batches, 0]
    ]
    assert {type(span.attributes["batch_size"]) for span in found} == {int}
    rows = sorted(window.rows(), key=lambda row: row.start)
    assert {(row.cat, row.name) for row in rows} == {("ModelExecute", "ModelRunnerExecuteModel")}
    assert [(row.start, row.end) for row in rows] == [(span.start, span.end) for span in found]
    assert [row.args for row in rows] == [
        {"type": 2, "device": "cpu", "dp": "0", "batch_size_": batch} for batch in [*batches, 0]
    ]


def test_no_timer_is_below_a_span_of_the_start_which_processes_inherit_by_fork(fielded: Fielded) -> None:
    starts = {span.trace_id for span in fielded.service.receiver.spans() if span.name == "Overall Loading"}
    found = {span.trace_id for name in (*FILES, GUIDES) for span in spans(fielded, name)}
    assert starts
    assert found
    assert found & starts == set()


def test_at_level_error_no_row_is_written(fielded: Fielded) -> None:
    window = fielded.windows[ERROR]
    assert fielded.windows[GUIDES].rows()
    assert list(window.folder.rglob("*.db")) == [] or window.rows() == []


def test_a_time_limit_ends_profiling_and_keeps_the_rest_of_the_file(fielded: Fielded) -> None:
    before, after = fielded.limited
    assert after == before.replace('"enable": 1', '"enable": 0')
    window = fielded.windows[LIMIT]
    assert window.end - window.start >= 1_000_000_000
    rows = window.rows()
    assert rows
    assert max(row.end for row in rows) < window.end
