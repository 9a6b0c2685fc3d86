"""The table of ``docs/field-symbols.md``: what became of each entry of the symbols files that exist in the field.

``ASCEND_OTEL_TEST_FIELD_SYMBOLS=write pytest tests/e2e/test_e2e_field_symbols.py`` writes the page anew; any other run
checks that it says what the run gave.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ascend_opentelemetry import symbols
from tests.support.contract import Row, read_rows
from tests.support.service import WITNESS, Service

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "symbols"
FILES = ("vllm-ascend-main.yaml", "msserviceprofiler-26.0.0.yaml", "msserviceprofiler-1.2.3.yaml")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "field-symbols.md"
#: ``write`` writes the page.
WRITE = "ASCEND_OTEL_TEST_FIELD_SYMBOLS"
STAND_IN = WITNESS.with_name("stand_in")
COUNTER = WITNESS.with_name("call_counter")

_BEGIN, _END = "<!-- table of {}: begin -->\n", "<!-- table of {}: end -->\n"
_HEADER = "| line | symbol | became | native rows |\n|---|---|---|---|\n"
#: Where a function lies that a class of the field files inherits, or that an alias stands for.
_DEFINED = {
    "vllm_ascend.worker.model_runner_v1:NPUModelRunner.": "vllm.v1.worker.gpu_model_runner:GPUModelRunner.",
    "vllm.engine.async_llm_engine:AsyncLLMEngine.": "vllm.v1.engine.async_llm:AsyncLLM.",
}
#: Why a function is not called between the requests of the run.
_NOT_CALLED = {
    "Executor.execute_model": "`MultiprocExecutor` has its own",
    "UniProcExecutor.execute_model": "the workers are processes",
    "EngineCore.step_with_batch_queue": "steps are not asynchronous",
    "*.embed_multimodal": "the model takes text only",
    "GPUModelRunner._execute_mm_encoder": "the model takes text only",
    "GPUModelRunner._pool": "the model generates text",
    "KVOutputAggregator.aggregate": "there is no KV connector",
    "Scheduler._update_from_kv_xfer_finished": "there is no KV connector",
    "NPUModelRunner.propose_draft_token_ids": "there is no speculative decoding",
    "NPUModelRunner._calc_spec_decode_metadata": "there is no speculative decoding",
    "NPUModelRunner._dummy_run": "it runs before the first request",
}
#: Native row that counts the calls of a built-in handler.
_ROW = {
    "add_request": "Schedule/Enqueue",
    "async_add_request": "Engine/httpReq",
    "execute_model": "Execute/modelExec",
    "get_computed_blocks": "Schedule.KVCache/CacheHitRate",
    "kv_free": "Schedule.KVCache/Free",
    "model_runner": "Execute/modelRunnerExec",
    "process_outputs": "Engine/httpRes",
    "record_function": "Execute/forward",
    "schedule": "Schedule/batchFrameworkProcessing",
}


@dataclass
class Window:
    """The time for which profiling was on with one symbols file, ns since 1970, and the folder that it wrote to."""

    name: str
    folder: Path
    start: int = 0
    end: int = 0

    def rows(self) -> list[Row]:
        return read_rows(self.folder)

    def names(self) -> Counter[str]:
        """``domain/name`` of the rows."""
        return Counter(f"{row.cat}/{row.name}" for row in self.rows())


@dataclass(frozen=True)
class Entry:
    """An entry of a symbols file after the run.

    Args:
        verdict: of ``ascend-otel symbols check --json``.
        state: ``installed`` or ``left_out`` as the processes say, ``absent`` where none has met it.
        calls: as the interpreter counted them in the window of the file.
        row: ``domain/name`` of the native rows; empty where there are none of its own.
    """

    symbol: symbols.Symbol
    verdict: Mapping[str, Any]
    state: str
    calls: int
    row: str

    @property
    def became(self) -> str:
        status, reason = self.verdict["status"], self.verdict["reason"]
        if status == "skipped":
            return f"skipped by version: {reason}"
        if status == "refused":
            return f"refused: {reason}"
        if is_absent(self.verdict):
            return f"not met: the stand-in for vllm-ascend has no `{self.symbol.module}`"
        if status == "unresolved":
            nearest = self.verdict["nearest"].partition(":")[2]
            return "unresolved" + (f": nearest is `{nearest}`" if nearest else ": nothing is near")
        if symbols.resolve_handler(self.symbol) == symbols.Builtin("data_parallel"):
            return "built in: `dpRankId` is in the Meta table of every file"
        if self.calls:
            return f"called {self.calls} {'time' if self.calls == 1 else 'times'}"
        return f"hooked, not called here: {_NOT_CALLED[self.symbol.qualname]}"


@dataclass
class Checks:
    """Runs ``ascend-otel symbols check`` on each file, beside the start of the server."""

    python: Path
    _running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        env = os.environ | {"PYTHONPATH": f"{STAND_IN}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        for name in FILES:
            command = [self.python, "-m", "ascend_opentelemetry.cli", "symbols", "check", "--json", FOLDER / name]
            self._running[name] = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    def verdicts(self, name: str) -> dict[int, dict[str, Any]]:
        """By the line of the entry."""
        return {one["line"]: one for one in json.loads(self._running[name].communicate(timeout=120)[0])["symbols"]}


def is_absent(verdict: Mapping[str, Any]) -> bool:
    """Whether the module of an entry does not exist, so that no process meets it."""
    return verdict["status"] == "unresolved" and verdict["reason"].startswith("there is no module")


def counter_targets() -> list[str]:
    """What the call counter must look for, for all files."""
    named = {symbol.target for name in FILES for symbol in symbols.load(FOLDER / name)[0]}
    return sorted(named | {_defined(target) for target in named})


def entries(
    service: Service,
    window: Window,
    verdicts: Mapping[int, Mapping[str, Any]],
    hooks: Sequence[Mapping[str, Sequence[str]]],
) -> list[Entry]:
    """The entries of the file of a window, in its order.

    Args:
        service: the run.
        window: of the file.
        verdicts: of ``Checks``.
        hooks: of the status file of each process.
    """
    calls = counted(service, window)
    found = []
    for symbol in symbols.load(FOLDER / window.name)[0]:
        verdict = verdicts[symbol.line]
        count = calls[symbol.target] or calls[_defined(symbol.target)] if verdict["status"] == "ok" else 0
        found.append(Entry(symbol, verdict, _state(symbol, hooks), count, _row(symbol)))
    return found


def counted(service: Service, window: Window) -> Counter[str]:
    """Calls during a window, by the function's place of definition."""
    lines = [line for path in service.folder.glob("witness/*.calls") for line in path.read_text().splitlines()]
    calls = map(json.loads, lines)
    return Counter(call["target"] for call in calls if window.start < call["time"] < window.end)


def compare(found: Mapping[str, list[Entry]], names: Mapping[str, Counter[str]]) -> None:
    """Write the tables into the page if asked to, and see that it holds them."""
    page = PAGE.read_text()
    for name, file in found.items():
        begin, end = _BEGIN.format(name), _END.format(name)
        head, _, rest = page.partition(begin)
        old, _, tail = rest.partition(end)
        new = _HEADER + "".join(_lines(file, names[name]))
        if os.environ.get(WRITE) == "write":
            page = head + begin + new + end + tail
            PAGE.write_text(page)
        else:
            assert old.splitlines() == new.splitlines(), f"{PAGE.name} is old: run this test with {WRITE}=write"


def _lines(file: list[Entry], names: Counter[str]) -> Iterator[str]:
    for entry in file:
        rows = f"{names[entry.row]} `{entry.row}`" if entry.calls and entry.row else ""
        yield f"| {entry.symbol.line} | `{entry.symbol.target}` | {entry.became} | {rows} |\n"


def _defined(target: str) -> str:
    for prefix, place in _DEFINED.items():
        if target.startswith(prefix):
            return place + target.removeprefix(prefix)
    return target


def _state(symbol: symbols.Symbol, hooks: Sequence[Mapping[str, Sequence[str]]]) -> str:
    for state in ("installed", "left_out"):
        for target in {target for process in hooks for target in process[state]}:
            module, _, qualname = target.partition(":")
            if symbol.wildcard:
                same = module.startswith(symbol.module[:-1]) and qualname.endswith(symbol.qualname[1:])
            else:
                same = target == symbol.target
            if same:
                return state
    return "absent"


def _row(symbol: symbols.Symbol) -> str:
    handler = symbols.resolve_handler(symbol)
    if isinstance(handler, symbols.Builtin):
        return _ROW.get(handler.name, "")
    return f"{symbol.domain}/{symbol.name}" if not isinstance(handler, symbols.Timer) else "/".join(handler)
