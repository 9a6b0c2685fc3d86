"""Broken input at the start, then profiling switched on and off by the config file while clients run."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devtools.client import Answer
from tests.support.contract import check, read_rows
from tests.support.service import WITNESS, Service, serve

pytestmark = pytest.mark.vllm

SYMBOLS = Path(__file__).with_name("symbols.yaml")
HANDLERS = Path(__file__).parents[1] / "support" / "handlers"
CLIENTS = 8


@dataclass
class Controlled:
    """The run, and when each text was written to the config file (ns since 1970)."""

    service: Service
    first: Answer
    answers: list[Answer] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    rows_after: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def controlled(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Controlled:
    folder = tmp_path_factory.mktemp("controlled")
    env = {"PROFILING_SYMBOLS_PATH": str(SYMBOLS), "PYTHONPATH": f"{WITNESS}:{HANDLERS}"}
    with serve(folder, vllm_python, tiny_model, config='{"enable": 1,', env=env) as service:
        run = Controlled(service, service.client.completion("Beijing is a", max_tokens=16))
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                run.answers.append(service.client.completion(max_tokens=8, ignore_eos=True))

        def write(name: str, **fields: object) -> None:
            service.config.write_text(json.dumps({"prof_dir": str(service.profile), **fields}, indent=2))
            run.written[name] = time.time_ns()
            time.sleep(1.2)
            run.rows_after[name] = len(read_rows(service.profile)) if service.profile.exists() else 0

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        write("off", enable=0, no_such_field=1, timelimit="soon", domain=7)
        write("on", enable=1)
        write("off again", enable=0)
        write("on again", enable=1, domain="ModelExecute; BatchSchedule")
        write("off at the end", enable=0)
        stop.set()
        for thread in threads:
            thread.join()
    return run


def test_answers_are_unchanged(controlled: Controlled, mixed: Service) -> None:
    assert controlled.first.texts == mixed.answers["completion-a"].texts
    assert {answer.status for answer in controlled.answers} == {200}
    assert len({tuple(answer.texts) for answer in controlled.answers}) == 1
    assert len(controlled.answers) > CLIENTS * 3


def test_nothing_is_recorded_while_profiling_is_off(controlled: Controlled) -> None:
    after = controlled.rows_after
    assert after["off"] == 0
    # what ended before the file changed may still be written after it
    assert after["on"] > 100
    assert after["on again"] > after["off again"] + 100
    written = controlled.written
    windows = [(written["on"], written["off again"]), (written["on again"], written["off at the end"])]
    slack = 250_000_000  # the file is looked at every 100 ms; it was written a moment before its time was taken
    for row in read_rows(controlled.service.profile):
        inside = [start - slack <= row.start and row.end <= end + slack for start, end in windows]
        assert any(inside), row


def test_the_switch_is_seen_within_200_ms(controlled: Controlled) -> None:
    rows = sorted(row.start for row in read_rows(controlled.service.profile) if row.name == "batchFrameworkProcessing")
    for name in ("on", "on again"):
        first = min(start for start in rows if start >= controlled.written[name] - 50_000_000)
        assert (first - controlled.written[name]) / 1e6 < 200, name


def test_the_same_files_are_appended(controlled: Controlled) -> None:
    files = list(controlled.service.profile.glob("*/Trace_Service/*.db"))
    assert len(files) == 3  # API server, EngineCore, Worker
    core = [file for file in files if {row.name for row in read_rows(file)} >= {"batchFrameworkProcessing"}]
    assert len(core) == 1
    starts = [row.start for row in read_rows(core[0]) if row.name == "batchFrameworkProcessing"]
    assert starts[0] < controlled.written["off again"] < controlled.written["on again"] < starts[-1] + 250_000_000
    assert check(controlled.service.profile) == []


def test_the_domain_filter_of_the_guide_selects(controlled: Controlled) -> None:
    second = controlled.written["on again"] - 50_000_000
    cats = {row.cat for row in read_rows(controlled.service.profile) if row.start > second}
    assert cats == {"Schedule", "Execute", "ModelExecute"}
    first = {row.cat for row in read_rows(controlled.service.profile) if row.start < second}
    assert first >= {"Schedule", "Execute", "ModelExecute", "Request", "Engine"}


def test_timers_of_the_symbols_file(controlled: Controlled) -> None:
    rows = read_rows(controlled.service.profile)
    prepared = [row for row in rows if row.name == "prepareInputs"]
    assert prepared
    for row in prepared:
        assert row.args["device"] == "cpu"
        # a name that the analyzer has for itself, and an attribute that cannot be evaluated
        assert "batch_size" not in row.args
        assert 1 <= row.args["batch_size_"] <= CLIENTS
        assert "broken" not in row.args
    generated = [row for row in rows if row.name == "AsyncLLM.generate"]
    assert generated
    for row in generated:
        assert row.args["request"].startswith("cmpl-req-")
        assert row.duration > 1_000_000, "an async generator is timed to its end"


def line_of(text: str) -> int:
    """Line of the symbols file that holds ``text``."""
    (line,) = [number for number, content in enumerate(SYMBOLS.read_text().splitlines(), 1) if text in content]
    return line


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("config.json:1:14", ["no valid JSON"]),
        ("config.json:4", ["no_such_field"]),
        ("config.json:5", ["timelimit", "soon"]),
        ("config.json:6", ["domain", "7"]),
        ("no_such_method", ["Scheduler.no_such_method", "does not exist"]),
        ("Scheduler.make_stats", ["no_such_package.handlers:nothing", "ModuleNotFoundError", "timed instead"]),
        ("OutputProcessor.process_outputs", ["process_outputs", "this handler is broken"]),
        ("colour", ["colour: unknown"]),
        ("without symbol", ["symbol: missing"]),
        ("._prepare_inputs", ["attribute broken", "_prepare_inputs"]),
    ],
)
def test_each_fault_has_one_clear_warning(controlled: Controlled, place: str, parts: list[str]) -> None:
    where = f"/{place}: " if place.startswith("config") else f"symbols.yaml:{line_of(place)}: "
    log = controlled.service.server.log().splitlines()
    lines = [line for line in log if where in line and all(part in line for part in parts)]
    assert len(lines) == 1, lines
    assert all(line.startswith("WARNING") or " WARNING " in line for line in lines), lines
