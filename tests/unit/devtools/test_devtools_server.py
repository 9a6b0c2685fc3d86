from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devtools.process import NotReadyError
from devtools.server import VllmServer, free_port

FAKE = f"""#!{sys.executable}
import http.server, json, os, signal, subprocess, sys
print("line one"); print("the arguments:", sys.argv[1:]); print("ENV", json.dumps(dict(os.environ)), flush=True)
if "--broken" in sys.argv: sys.exit("no such model")
if "--leaves-child" in sys.argv: subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"])
if "--deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
METRICS = b'''# HELP a text
vllm:tokens_total{{engine="0",model_name="tiny"}} 3.0
vllm:tokens_total{{engine="1",model_name="tiny"}} 4.5
up 1
'''
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(METRICS if self.path == "/metrics" else b"")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A folder of tools with a fake ``vllm`` and an ``opentelemetry-instrument`` that says it was there."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "vllm").write_text(FAKE)
    (tools / "opentelemetry-instrument").write_text('#!/bin/sh\necho instrumented\nexec "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return tools / "python"


def serve(python: Path, *args: str, **options: object) -> VllmServer:
    return VllmServer(python, Path("MODEL"), args=args, log_path=python.parent.parent / "log" / "server.log", **options)


def environment(server: VllmServer) -> dict[str, str]:
    line = next(line for line in server.log().splitlines() if line.startswith("ENV "))
    return json.loads(line.removeprefix("ENV "))


def test_serves_until_the_block_ends(python: Path) -> None:
    with serve(python, "--max-num-seqs", "2") as server:
        assert server.running()
        assert list(server.pids()) == [server.pid]
        assert server.pid != os.getpid()
    assert not server.running()
    assert server.pids() == {}
    assert 0 < server.ready_seconds < 10
    assert server.log().startswith("instrumented\nline one\n")
    port = str(server.port)
    assert server.command[1:7] == [str(python.parent / "vllm"), "serve", "MODEL", "--host", "127.0.0.1", "--port"]
    assert server.command[7:] == [
        port, "--max-model-len", "256", "--enforce-eager", "--max-num-seqs", "8", "--served-model-name", "tiny",
        "--max-num-seqs", "2",
    ]  # fmt: skip


def test_plain_server_is_not_instrumented(python: Path) -> None:
    with serve(python, instrument=False) as server:
        assert server.log().startswith("line one\n")


def test_environment_is_ours_less_what_would_change_the_server(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "VLLM_PLUGINS", "PYTHONPATH", "SERVICE_PROF_CONFIG_PATH", "traceparent"):
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("HARMLESS", "kept")
    with serve(python, env={"OTEL_TRACES_EXPORTER": "otlp", "DO_NOT_TRACK": "0"}) as server:
        env = environment(server)
    assert "foreign" not in env.values()
    assert env["PATH"].split(os.pathsep)[0] == str(python.parent)
    assert (env["HARMLESS"], env["OTEL_TRACES_EXPORTER"], env["DO_NOT_TRACK"]) == ("kept", "otlp", "0")
    assert (env["HF_HUB_OFFLINE"], env["VLLM_NO_USAGE_STATS"], env["VLLM_CPU_KVCACHE_SPACE"]) == ("1", "1", "1")


def test_metrics_are_read(python: Path) -> None:
    with serve(python) as server:
        assert server.metrics() == {
            'vllm:tokens_total{engine="0",model_name="tiny"}': 3.0,
            'vllm:tokens_total{engine="1",model_name="tiny"}': 4.5,
            "up": 1.0,
        }
        assert server.metric("vllm:tokens_total") == 7.5
        assert server.metric("vllm:tokens_total", engine="1") == 4.5
        assert server.metric("vllm:tokens_total", engine="2") == 0


def test_death_at_start_shows_the_log(python: Path) -> None:
    with (
        pytest.raises(NotReadyError, match=r"(?s)ended with status 1; the end of .*server\.log:.*no such model"),
        serve(python, "--broken"),
    ):
        pass


def test_server_that_never_answers_is_stopped(python: Path) -> None:
    (python.parent / "vllm").write_text("#!/bin/sh\necho loading\nexec sleep 60\n")
    server = serve(python, ready_timeout=0.3)
    with pytest.raises(NotReadyError, match=r"(?s)not ready after 0 s.*loading"), server:
        pass
    assert server.pids() == {}


def test_deaf_server_is_killed_as_a_last_resort(python: Path) -> None:
    with serve(python, "--deaf") as server:
        server.stop(timeout=0.2)
        assert server.pids() == {}
    assert not server.running()


def test_child_left_behind_is_killed(python: Path) -> None:
    with serve(python, "--leaves-child") as server:
        assert len(server.pids()) == 2
        server.stop(grace=0.1)
        assert server.pids() == {}


def test_a_server_ends_with_whoever_started_it(python: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from devtools.server import VllmServer\n"
        f"server = VllmServer(Path({str(python)!r}), Path('MODEL'), log_path=Path({str(tmp_path / 'server.log')!r}))\n"
        "server.__enter__(); print(server.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == -9, done.stderr
    status, until = Path(f"/proc/{int(done.stdout)}/stat"), time.monotonic() + 10
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until, "it still runs"
        time.sleep(0.02)


def test_free_port_is_free() -> None:
    assert 1024 <= free_port() <= 65535
