"""Spans and native files of a parent, a spawned and a forked child, and of processes that only help."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support.contract import check, read_rows

SPANS = {"load": 1, "scale": 3, "engineStep": 3, "generate": 1, "start": 1, "fail": 1, "program": 3}
ROWS = {name: count for name, count in SPANS.items() if name != "program"}


def output(*methods: str) -> str:
    def process(name: str) -> str:
        return f"{name} [0, 10] 30\n{name} {name} failed\n"

    return process("parent") + "".join(f"{process(method)}{method} ended with 0\n" for method in methods)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_each_process_gives_its_spans_and_its_native_file(program, receiver, protocol) -> None:
    program.native()
    if protocol == "grpc":  # the default
        program.export_to(receiver.grpc_endpoint)
    else:
        program.export_to(receiver.http_endpoint)
        program.environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
    done = program.serve("spawn", "fork")
    assert (done.code, done.out) == (0, output("spawn", "fork")), done.err
    assert done.warnings == []
    assert sorted(done.pids) == ["fork", "parent", "spawn"]

    spans = receiver.spans()
    for name, pid in done.pids.items():
        own = [span for span in spans if span.attributes.get("engine", name) == name]
        own = [span for span in own if span.name != "program"]
        assert Counter(span.name for span in own if span.resource["process.pid"] == pid) == ROWS, name
    assert Counter(span.name for span in spans) == {span: count * 3 for span, count in SPANS.items()}
    assert {span.resource["service.name"] for span in spans} == {"vllm"}
    assert {span.resource["telemetry.distro.name"] for span in spans} == {"ascend-opentelemetry"}
    assert len({span.span_id for span in spans}) == len(spans)

    files = {path.stem.rpartition("-")[2]: path for path in program.databases}
    assert sorted(files) == sorted(map(str, done.pids.values()))
    assert len({path.parent for path in files.values()}) == 1
    for pid, path in files.items():
        rows = read_rows(path)
        assert Counter(row.name for row in rows) == ROWS
        assert {row.pid for row in rows} == {int(pid)}
    assert check(program.folder / "prof") == []


def test_what_a_span_says(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    assert program.serve().out == output()
    spans = receiver.spans()
    by_id = {span.span_id: span for span in spans}
    (failed,) = [span for span in spans if span.name == "fail"]
    assert (failed.status_code, failed.status_message) == (2, "ValueError: parent failed")
    assert failed.events[0].attributes["exception.message"] == "parent failed"
    steps = sorted((span for span in spans if span.name == "engineStep"), key=lambda span: span.start)
    assert [step.attributes for step in steps] == [
        {"size": 1, "engine.total": total, "engine": "parent"} for total in (0, 10)
    ] + [{"size": 2, "engine.total": 30, "engine": "parent"}]
    assert {step.scope for step in steps} == {"ascend_opentelemetry.Execute"}
    paths = Counter()
    for span in spans:
        names = [span.name]
        while span.parent_id:
            span = by_id[span.parent_id]
            names.append(span.name)
        paths[" < ".join(names)] += 1
    assert paths == {
        "load": 1,
        "start": 1,
        "generate < start": 1,
        "engineStep < generate < start": 2,
        "program < engineStep < generate < start": 2,
        "scale < program < engineStep < generate < start": 2,
        "engineStep": 1,
        "program < engineStep": 1,
        "scale < program < engineStep": 1,
        "fail": 1,
    }


def test_roots_that_are_not_sampled_leave_no_span_at_all(program, receiver) -> None:
    program.native()
    program.export_to(receiver.grpc_endpoint)
    done = program.serve(OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO="0")
    assert done.out == output()
    assert receiver.spans() == []
    assert Counter(row.name for row in read_rows(program.folder)) == ROWS


def test_the_step_ratio_is_a_flag_too(program, receiver) -> None:
    from subprocess import run

    program.export_to(receiver.grpc_endpoint)
    del program.environment["OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO"]
    command = ["opentelemetry-instrument", "--vllm_step_sample_ratio", "1", "python", "-m", "fake_vllm.serve"]
    done = run(
        [*command, str(program.folder / "pids"), "0"],
        env=program.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == output()
    assert Counter(span.name for span in receiver.spans()) == SPANS


def test_started_plainly_the_plugin_instruments_each_process(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    program.native()
    done = program.serve("spawn", "fork", "forkserver", plain=True)
    assert (done.code, done.out) == (0, output("spawn", "fork", "forkserver")), done.err
    assert Counter(span.name for span in receiver.spans()) == {span: count * 4 for span, count in SPANS.items()}
    assert len(program.databases) == 4


def test_the_distro_of_others_gets_the_same_spans(program, receiver) -> None:
    pytest.importorskip("opentelemetry.distro")
    program.export_to(receiver.grpc_endpoint)
    done = program.serve("fork", OTEL_PYTHON_DISTRO="distro", OTEL_PYTHON_CONFIGURATOR="configurator")
    assert (done.code, done.out) == (0, output("fork")), done.err
    assert Counter(span.name for span in receiver.spans()) == {span: count * 2 for span, count in SPANS.items()}


SITE = """
import json, os, sys, threading
from opentelemetry.instrumentation.auto_instrumentation import initialize
initialize()
folder = os.environ["DUMPS"]
with open(f"{folder}/{os.getpid()}.json", "w") as file:
    threads = sorted(thread.name for thread in threading.enumerate())
    json.dump({"argv": sys.orig_argv, "modules": sorted(sys.modules), "threads": threads}, file)
"""


def test_helpers_load_nothing_but_the_question_whether_they_are_one(program, tmp_path: Path) -> None:
    program.native()
    program.export_to("http://127.0.0.1:1")
    site, dumps = tmp_path / "site", tmp_path / "dumps"
    models = site / "vllm" / "model_executor" / "models"
    models.mkdir(parents=True)
    dumps.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    # packages with an __init__ come before a vLLM that is installed
    for file in ("../../__init__.py", "../__init__.py", "__init__.py", "registry.py"):
        (models / file).write_text("")
    # a lock of multiprocessing starts the resource tracker
    script = (
        "import multiprocessing, subprocess, sys\n"
        "multiprocessing.get_context('spawn').Lock()\n"
        "subprocess.run([sys.executable, '-m', 'vllm.model_executor.models.registry'], check=True)\n"
        "print('done')\n"
    )
    done = program.run("-c", script, plain=True, DUMPS=str(dumps))
    assert done.out == "done\n", done.err
    found = [json.loads(file.read_text()) for file in dumps.iterdir()]
    helpers = [dump for dump in found if script not in dump["argv"]]
    assert sorted(dump["argv"][1] for dump in helpers) == ["-c", "-m"]
    names = {"distro", "distro._distro", "distro._plugin", "_role", "environment_variables", "version"}
    for dump in helpers:
        ours = {name for name in dump["modules"] if name.startswith("ascend_opentelemetry")}
        assert ours == {"ascend_opentelemetry"} | {f"ascend_opentelemetry.{name}" for name in names}
        heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "grpc", "sqlite3", "yaml", "google.protobuf")
        assert [name for name in dump["modules"] if name.startswith(heavy)] == []
        assert dump["threads"] == ["MainThread"]
    (script_dump,) = [dump for dump in found if script in dump["argv"]]
    assert "opentelemetry.sdk.trace" in script_dump["modules"]
    assert "ascend_opentelemetry._instrumentor" in script_dump["modules"]
    assert "ascend-otel-drain" in script_dump["threads"]


def test_a_script_of_the_user_is_no_helper(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    done = program.run("-c", "from fake_vllm.engine import Engine; print(Engine('x').step([4]))")
    assert (done.code, done.out) == (0, "40\n"), done.err
    assert Counter(span.name for span in receiver.spans()) == {"engineStep": 1, "program": 1, "scale": 1}


MODULES = """
import sys
from fake_vllm.engine import Engine
from opentelemetry import trace
Engine('x').step([4])
print(sorted({name.partition('.')[2] for name in sys.modules if name.startswith(('opentelemetry.exporter', 'grpc.'))}))
"""


def test_native_files_alone_have_no_exporter(program) -> None:
    program.native()
    done = program.run("-c", MODULES)
    assert (done.code, done.out) == (0, "[]\n"), done.err
    assert Counter(row.name for row in read_rows(program.folder)) == {"engineStep": 1, "scale": 1}


def test_names_that_the_user_gave(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    program.serve(OTEL_RESOURCE_ATTRIBUTES="service.name=mine,team=a")
    resources = [span.resource for span in receiver.spans()]
    assert {(resource["service.name"], resource["team"]) for resource in resources} == {("mine", "a")}


def test_with_our_instrumentor_switched_off_the_programs_own_spans_arrive(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    script = "from fake_vllm.engine import Engine; print(Engine('x').step([4]))"
    done = program.run("-c", script, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="vllm")
    assert done.out == "40\n"
    assert Counter(span.name for span in receiver.spans()) == {"program": 1}
