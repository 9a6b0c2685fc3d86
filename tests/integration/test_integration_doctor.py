"""``ascend-otel doctor`` in real situations: its first line is the cause."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SERVICE = '''\
"""A parent and children that run until the parent gets a line; VARIABLE=VALUE is set before they start."""
import multiprocessing, os, sys
from fake_vllm.serve import run

def child(name, end):
    run(name, sys.argv[1])
    end.recv()

if __name__ == "__main__":
    run("parent", sys.argv[1])
    os.environ.update(argument.split("=", 1) for argument in sys.argv[2:])
    processes = []
    for method, name in (("spawn", "EngineCore"), ("fork", "Worker")):
        context = multiprocessing.get_context(method)
        theirs, ours = context.Pipe()
        process = context.Process(target=child, args=(name, theirs), name=name)
        process.start()
        processes.append((process, ours))
    sys.stdin.readline()
    for process, ours in processes:
        ours.send(None)
        process.join()
'''
KEYS = [
    "pid", "start_ticks", "ppid", "role", "versions", "service", "mode", "exporters", "hooks", "records", "metrics",
    "sources", "native",
]  # fmt: skip
EXPORTER_KEYS = ["endpoint", "protocol", "exported", "dropped", "last_success", "last_error"]
METHODS = ("load", "scale", "step", "generate", "start", "fail")
NATIVE_KEYS = ["config", "enabled", "file", "written", "dropped"]


def rows_of(column: str, lines: list[str]) -> list[list[str]]:
    """Words of the rows of the table whose first column this is."""
    rows = itertools.dropwhile(lambda line: not line.startswith(f"{column} "), lines)
    return [line.split() for line in itertools.takewhile(bool, rows)][1:]


@pytest.fixture(autouse=True)
def run_dir(program: Any) -> Path:
    """Where the processes of this test, and no others, put their status files."""
    folder: Path = program.folder / "run"
    folder.mkdir()
    program.environment |= {"XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
    return folder / "ascend-otel"


def doctor(program: Any, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    """Its exit code and its lines."""
    done = program.run("-m", "ascend_opentelemetry.cli", "doctor", *arguments, plain=True, **environment)
    assert done.err == ""
    return done.code, done.out.splitlines()


def install(program: Any, name: str, version: str, entry_points: str = "") -> None:
    """The metadata of a package, before those of the environment."""
    metadata = program.folder / "site" / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(entry_points)


def test_nothing_is_wrong(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    code, lines = doctor(program)
    assert (code, lines[0]) == (0, "ok: nothing wrong was found")
    assert [span.name for span in receiver.spans()] == ["ascend-otel doctor"]
    assert lines[-1] == "no process of this user is instrumented now"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_nothing_listens(program, protocol) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    program.export_to(f"http://127.0.0.1:{port}")
    code, lines = doctor(program, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    assert (code, lines[0]) == (2, f"error: nothing listens at 127.0.0.1:{port}: connection refused")
    assert lines[1] == "       Start a collector there, or name another one in OTEL_EXPORTER_OTLP_ENDPOINT."


def test_http_to_a_grpc_port(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    code, lines = doctor(program, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    where = receiver.grpc_endpoint.removeprefix("http://")
    assert (code, lines[0]) == (2, f"error: {where} is a gRPC port (HTTP/2), and the protocol is http/protobuf")


def test_grpc_to_an_http_port(program, receiver) -> None:
    program.export_to(receiver.http_endpoint)
    code, lines = doctor(program)
    where = receiver.http_endpoint.removeprefix("http://")
    assert (code, lines[0]) == (2, f"error: {where} is no gRPC port: it speaks HTTP/1, and the protocol is grpc")


def test_v1_traces_is_missing(program, receiver) -> None:
    program.environment |= {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.http_endpoint,
    }
    code, lines = doctor(program)
    assert code == 2
    assert lines[0] == f"error: /v1/traces is missing in the path of {receiver.http_endpoint}: 404 (Not Found)"


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])

    def serve(server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            try:
                with client, context.wrap_socket(client, server_side=True) as stream:
                    stream.recv(1)
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_plain_to_tls(program, protocol) -> None:
    with tls_server(program.folder) as port:
        code, lines = doctor(program, "--endpoint", f"http://127.0.0.1:{port}", "--protocol", protocol)
    said = f"error: TLS mismatch: 127.0.0.1:{port} speaks TLS, and the endpoint has it spoken to without"
    assert (code, lines[0]) == (2, said)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_tls_to_plain(program, receiver, protocol) -> None:
    plain = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    where = plain.removeprefix("http://")
    code, lines = doctor(program, "--endpoint", f"https://{where}", "--protocol", protocol)
    said = f"error: TLS mismatch: {where} does not speak TLS, and the endpoint has it spoken to by TLS"
    assert (code, lines[0]) == (2, said)


def test_a_foreign_distro_wins(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    names = "[opentelemetry_distro]\naaa = aaa:Distro\n[opentelemetry_configurator]\naaa = aaa:Configurator\n"
    install(program, "aaa", "1", names)
    del program.environment["OTEL_PYTHON_DISTRO"], program.environment["OTEL_PYTHON_CONFIGURATOR"]
    code, lines = doctor(program)
    assert code == 1
    assert lines[0].startswith(
        "warning: the distro 'aaa' of aaa wins over 'ascend' under opentelemetry-instrument: OTEL_PYTHON_DISTRO is not "
        "set and it is the first of aaa, "
    )
    assert lines[1] == "         Set OTEL_PYTHON_DISTRO=ascend and OTEL_PYTHON_CONFIGURATOR=ascend."


def test_ours_wins_where_it_is_named(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    install(program, "aaa", "1", "[opentelemetry_distro]\naaa = aaa:Distro\n")
    code, lines = doctor(program)
    assert (code, lines[0]) == (0, "ok: nothing wrong was found")
    assert "distro        ascend: OTEL_PYTHON_DISTRO names it" in lines


def test_a_configurator_that_does_not_exist(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    code, lines = doctor(program, OTEL_PYTHON_CONFIGURATOR="ascnd")
    assert code == 2
    assert lines[0].startswith("error: no configurator is loaded, so the SDK is not set up: OTEL_PYTHON_CONFIGURATOR=")


@pytest.mark.parametrize(
    ("environment", "code", "first"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, 2, "error: OTEL_SDK_DISABLED=true switches the SDK off"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, 2, "error: the sampler is off: OTEL_TRACES_SAMPLER=always_off"),
        ({"VLLM_PLUGINS": "ascend"}, 1, "warning: VLLM_PLUGINS=ascend leaves ascend_opentelemetry out"),
    ],
)
def test_variables(program, receiver, environment, code, first) -> None:
    program.export_to(receiver.grpc_endpoint)
    found, lines = doctor(program, **environment)
    assert found == code
    assert lines[0].startswith(first)


def test_an_old_instrumentation_is_a_note_unless_the_plugin_is_left_out(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    install(program, "opentelemetry_instrumentation", "0.62b0")
    cause = "opentelemetry-instrumentation 0.62b0 is too old to instrument processes that are started by spawn"
    code, lines = doctor(program)
    assert (code, lines[0]) == (0, f"note: {cause}")
    code, lines = doctor(program, VLLM_PLUGINS="ascend")
    assert code == 2
    assert lines[0].startswith("error: VLLM_PLUGINS=ascend leaves ascend_opentelemetry out")
    assert lines[2] == f"error: {cause}, and the vLLM plugin is left out"


def test_native_files_only(program) -> None:
    program.native()
    code, lines = doctor(program)
    assert (code, lines[0]) == (0, "note: spans are not exported by OTLP, so no test span was sent")


def test_no_span_is_sent_where_that_is_not_wanted(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    code, lines = doctor(program, "--no-send")
    assert (code, lines[0]) == (0, "ok: nothing wrong was found")
    assert receiver.received == {}


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "error: no exporter speaks the protocol http/json"),
        (
            {"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"},
            "error: the exporter cannot be made: InvalidCompressionValueException: ",
        ),
    ],
)
def test_variables_that_the_exporter_does_not_understand(program, receiver, environment, first) -> None:
    program.export_to(receiver.grpc_endpoint)
    code, lines = doctor(program, **environment)
    assert code == 2
    assert lines[0].startswith(first)


class Running:
    """The service while it runs."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.communicate("\n", timeout=30)

    def statuses(self, complete: Callable[[list[dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
        """The status files by role, as soon as all three are there and complete."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
            roles = {status["role"]: status for status in found}
            if sorted(roles) == ["EngineCore", "Worker", "main"] and complete(found):
                return roles
            time.sleep(0.05)
        raise AssertionError(found)


def has_exported(statuses: list[dict[str, Any]]) -> bool:
    return all(exporter["exported"] for status in statuses for exporter in status["exporters"])


@pytest.fixture
def service(program: Any, run_dir: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []
    script = program.folder / "service.py"
    script.write_text(SERVICE)

    def start(*arguments: str) -> Running:
        instrument = Path(sys.executable).with_name("opentelemetry-instrument")
        command = [instrument, "python", script, program.folder / "pids", *arguments]
        process = subprocess.Popen(
            command, env=program.environment, cwd=program.folder, stdin=subprocess.PIPE, text=True
        )
        running.append(Running(process, run_dir))
        return running[-1]

    yield start
    for service in running:
        service.end()


def test_the_status_files_of_a_service(program, receiver, service, run_dir) -> None:
    program.native()
    program.symbols.write_text(program.symbols.read_text() + "- symbol: fake_vllm.engine:Engine.gone\n")
    endpoint = receiver.http_endpoint.removeprefix("http://")
    program.export_to(f"http://me:secret@{endpoint}")
    program.environment |= {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret",
    }
    before = time.time()
    running = service()
    found = running.statuses(lambda statuses: has_exported(statuses) and all(s["native"]["written"] for s in statuses))
    main = found["main"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in run_dir.iterdir()] == [0o600] * 3
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    for status in found.values():
        assert list(status) == KEYS
        assert status["service"] == main["service"]
        assert (status["ppid"], status["mode"]) == (
            (os.getpid() if status is main else main["pid"]),
            "own",
        )
        assert status["versions"]["vllm"] == "0.32.0"
        assert status["records"] == {"taken": 13, "dropped": 0, "lost": {}}
        (exporter,) = status["exporters"]
        assert list(exporter) == EXPORTER_KEYS
        assert (exporter["endpoint"], exporter["protocol"], exporter["exported"]) == (
            f"http://{endpoint}/v1/traces",
            "http/protobuf",
            13,
        )
        assert (exporter["dropped"], exporter["last_error"]) == ({}, None)
        assert before < exporter["last_success"] <= time.time()
        assert status["hooks"] == {
            "installed": [f"fake_vllm.engine:Engine.{method}" for method in METHODS],
            "left_out": ["fake_vllm.engine:Engine.gone"],
            "switched_off": [],
        }
        native = status["native"]
        assert list(native) == NATIVE_KEYS
        assert (native["config"], native["enabled"]) == (str(program.config), True)
        assert (native["written"], native["dropped"]) == (10, {})
        assert native["file"] in map(str, program.databases)
        assert "secret" not in (run_dir / f"{status['pid']}.json").read_text()
        assert listening(status["pid"]) == set()

    code, lines = doctor(program)
    gone = (
        "symbols that do not exist in this version, or lie in compiled code, are left out: fake_vllm.engine:Engine.gone"
    )
    assert (code, lines[0]) == (0, f"note: main ({main['pid']}): {gone}")
    assert f"variables     of the running service (pid {main['pid']})" in lines
    table = rows_of("pid", lines)
    assert [row[:2] for row in table] == [[str(found[role]["pid"]), role] for role in ("main", "EngineCore", "Worker")]
    assert [row[3:8] for row in table] == [["6", "13", "0", "13", "0"]] * 3
    sources = {row[0]: " ".join(row[1:]) for row in rows_of("source", lines)}
    assert sources["host"] == "main, EngineCore, Worker usable"
    assert sources["dcmi"] == "main no libdcmi.so of the Ascend driver, metrics off"

    running.end()
    assert list(run_dir.iterdir()) == []


def listening(pid: int) -> set[str]:
    """Sockets of the process that wait for connections."""
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    own = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}
    rows = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    return {row[9] for row in rows if row[3] == "0A"} & own


def test_a_process_that_was_killed_is_forgotten(program, receiver, service, run_dir) -> None:
    program.export_to(receiver.grpc_endpoint)
    running = service()
    found = running.statuses(has_exported)
    worker = run_dir / f"{found['Worker']['pid']}.json"
    os.kill(found["Worker"]["pid"], signal.SIGKILL)
    _, lines = doctor(program, "--no-send")
    assert not worker.exists()
    assert [row[1] for row in rows_of("pid", lines)] == ["main", "EngineCore"]


def test_the_facts_as_json(program, receiver, service) -> None:
    program.export_to(receiver.grpc_endpoint)
    found = service().statuses(has_exported)
    done = program.run("-m", "ascend_opentelemetry.cli", "doctor", "--json", plain=True)
    report = json.loads(done.out)
    assert list(report) == ["findings", "versions", "variables", "distro", "endpoint", "processes"]
    assert report["findings"] == []
    assert report["distro"]["configurator"] == {
        "name": "ascend",
        "package": "ascend-opentelemetry",
        "why": "OTEL_PYTHON_CONFIGURATOR names it",
    }
    assert list(report["endpoint"]) == ["url", "protocol", "tls", "error", "rejected", "seconds"]
    assert report["endpoint"]["error"] is None
    assert [process["pid"] for process in report["processes"]] == [
        found[role]["pid"] for role in ("main", "EngineCore", "Worker")
    ]


def test_findings_as_json(program) -> None:
    done = program.run("-m", "ascend_opentelemetry.cli", "doctor", "--json", plain=True, OTEL_SDK_DISABLED="true",
                       OTEL_TRACES_EXPORTER="none")  # fmt: skip
    assert done.code == 2
    assert json.loads(done.out)["findings"][0] == {
        "severity": "error",
        "cause": "OTEL_SDK_DISABLED=true switches the SDK off: there are no spans",
        "action": "Remove OTEL_SDK_DISABLED.",
    }


def test_the_endpoint_was_rewritten_by_vllm(program, receiver, service) -> None:
    """vLLM writes its --otlp-traces-endpoint into the environment of its children."""
    program.export_to(receiver.grpc_endpoint)
    running = service("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1")
    found = running.statuses(lambda statuses: True)
    code, lines = doctor(program)
    assert code == 2
    assert lines[0] == (
        f"error: the endpoint was rewritten by vLLM: EngineCore ({found['EngineCore']['pid']}) was started with "
        f"http://127.0.0.1:1, its parent main ({found['main']['pid']}) with {receiver.grpc_endpoint}"
    )


def test_the_variables_of_the_one_running_service_count(program, receiver, service) -> None:
    program.export_to(receiver.grpc_endpoint)
    service().statuses(has_exported)
    code, lines = doctor(program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_SDK_DISABLED="true")
    assert (code, lines[0]) == (0, "ok: nothing wrong was found")
    assert [span.name for span in receiver.spans()].count("ascend-otel doctor") == 1


def test_a_running_service_whose_exports_fail(program, service) -> None:
    program.export_to("http://127.0.0.1:1")
    running = service()
    found = running.statuses(
        lambda statuses: all(exporter["last_error"] for status in statuses for exporter in status["exporters"])
    )
    code, lines = doctor(program)
    assert (code, lines[0]) == (2, "error: nothing listens at 127.0.0.1:1: connection refused")
    said = f"warning: main ({found['main']['pid']}): the last export to 127.0.0.1:1 failed: "
    # a collector that is not there is UNAVAILABLE, or the time is over before that is known
    assert [line.removeprefix(said) for line in lines if line.startswith(said)] in (
        ["UNAVAILABLE"],
        ["DEADLINE_EXCEEDED"],
    )
