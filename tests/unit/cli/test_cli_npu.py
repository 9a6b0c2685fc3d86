"""``ascend-otel npu`` on recordings made by hand, sent to a real receiver."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ascend_opentelemetry.cli import main
from devtools.otlp_receiver import OtlpReceiver

HEAD = ["Step Id", "Device_id", "Name", "Type", "Accelerator Core", "Start Time(us)", "Duration(us)"]
BEGIN = 1_736_408_883_704_643_212
ROWS = [
    ["50", "0", "aclnnAdd_AddAiCore_Add", "Add", "AI_VECTOR_CORE", "1736408883704643.212\t", "53.741"],
    ["50", "0", "aclnnAdd_AddAiCore_Add", "Add", "AI_VECTOR_CORE", "1736408883704743.212\t", "3.001"],
    ["50", "0", "MatMulV3_0f3a9c5d7e1b2a4c6d8e_1", "N/A", "AI_CORE", "1736408883704843.212\t", "100"],
    ["50", "0", "hcom_allReduce__1_0_1", "hcom_allReduce_", "HCCL", "1736408883704943.212\t", "200"],
]
TOP = """\
type       core type       count  total ms  share  min us   median us  max us
allReduce  COMMUNICATION   1      0.200     56.1%  200.000  200.000    200.000
MatMulV3   AI_CORE         1      0.100     28.0%  100.000  100.000    100.000
Add        AI_VECTOR_CORE  2      0.057     15.9%  3.001    28.371     53.741
4 operators in 1 file
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A recording of rank 3."""
    output = tmp_path / "host_1_20251126_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    (output.parent / "profiler_info_3.json").write_text("{}")
    with (output / "kernel_details.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEAD, *ROWS])
    return output


@pytest.fixture
def receiver(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with OtlpReceiver(tmp_path / "got.jsonl") as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.grpc_endpoint)
        yield running


def broken(folder: Path) -> Path:
    path = folder / "memory_record.csv"
    path.write_text("")
    return path


def metrics(path: Path) -> dict[str, list[dict]]:
    """Data points by metric, of what the receiver got."""
    found: dict[str, list[dict]] = {}
    for line in path.with_suffix(".metrics.jsonl").read_text().splitlines():
        for resource in json.loads(line)["resourceMetrics"]:
            for scope in resource["scopeMetrics"]:
                assert scope["scope"]["name"] == "ascend_opentelemetry.npu"
                for metric in scope["metrics"]:
                    (data,) = (metric[kind] for kind in ("sum", "gauge", "histogram") if kind in metric)
                    found.setdefault(metric["name"], []).extend(data["dataPoints"])
    return found


def attributes(entry: dict) -> dict[str, object]:
    return {one["key"]: next(iter(one["value"].values())) for one in entry["attributes"]}


def test_top_prints_operators_by_time(folder, capsys) -> None:
    assert main(["npu", "top", str(folder.parent)]) == 0
    assert capsys.readouterr() == (TOP, "")


def test_top_prints_as_many_lines_as_asked_for(folder, capsys) -> None:
    assert main(["npu", "top", str(folder), "--by", "core", "--limit", "1"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("core type      count")
    assert second.split() == ["COMMUNICATION", "1", "0.200", "56.1%", "200.000", "200.000", "200.000"]
    assert third == "1 of 3 lines, 4 operators in 1 file"
    assert main(["npu", "top", str(folder), "--limit", "0"]) == 0
    assert capsys.readouterr().out == TOP


def test_top_as_json(folder, capsys) -> None:
    assert main(["npu", "top", str(folder), "--by", "name", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["by"], report["files"]) == ("name", [str(folder / "kernel_details.csv")])
    assert (report["problems"], report["left_out"]) == ([], 0)
    assert report["operators"][2] == {
        "name": "aclnnAdd_AddAiCore_Add",
        "core_types": ["AI_VECTOR_CORE"],
        "count": 2,
        "total_ns": 56742,
        "share": 0.159056,
        "min_ns": 3001,
        "median_ns": 28371.0,
        "max_ns": 53741,
    }


@pytest.mark.parametrize("arguments", [["top", "x", "--limit", "-1"], ["top", "x", "--by", "size"], ["import"], []])
def test_a_wrong_command_line(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["npu", *arguments])
    assert end.value.code == 2
    assert "usage: ascend-otel npu" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["top", "import"])
def test_an_empty_path_is_not_the_current_folder(action, folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as end:
        main(["npu", action, ""])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("error: argument PATH: is empty: name a folder or a file\n")


def test_times_that_a_spreadsheet_has_rounded_are_told(folder, capsys) -> None:
    with (folder / "kernel_details.csv").open("a", newline="") as file:
        csv.writer(file).writerows([[*ROWS[0][:5], start, "53.741"] for start in ("1.73641E+15", "1.7e15")])
    assert main(["npu", "top", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("6 operators in 1 file\n")
    assert err == (
        f"ascend-otel: {folder}/kernel_details.csv: 2 start times rounded, as spreadsheets save them: durations are "
        "right, times are not; export it again\n"
    )


@pytest.mark.parametrize("limit", ["-1", "many", ""])
def test_a_limit_that_is_none_is_told_in_words(limit, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["npu", "top", "x", f"--limit={limit}"])
    said = f"argument --limit: {limit!r} is no number of lines; 0 prints all\n"
    assert capsys.readouterr().err.endswith(said)


def test_of_what_was_exported_twice_the_newer_is_read_and_the_older_told(folder, tmp_path, capsys) -> None:
    exported = tmp_path / "PROF_000001_20251126030000000_ABC" / "mindstudio_profiler_output"
    exported.mkdir(parents=True)
    for name in ("op_summary_20251126030500.csv", "op_summary_20251126040500.csv"):
        shutil.copy(folder / "kernel_details.csv", exported / name)
    assert main(["npu", "top", str(exported.parent)]) == 0
    said = f"{exported}/op_summary_20251126030500.csv: not read: msprof has exported it again, as"
    assert capsys.readouterr() == (TOP, f"ascend-otel: {said} op_summary_20251126040500.csv\n")


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(folder, tmp_path, capsys) -> None:
    path = folder / "op_summary_1.csv"
    shutil.copy(folder / "kernel_details.csv", path)
    (folder / "kernel_details.csv").write_text("")
    assert main(["npu", "top", str(tmp_path)]) == 2
    assert capsys.readouterr() == (TOP, f"ascend-otel: {folder}/kernel_details.csv: is empty\n")
    assert main(["npu", "top", str(folder / "kernel_details.csv")]) == 2
    assert capsys.readouterr() == ("", f"ascend-otel: {folder}/kernel_details.csv: is empty\n")


def test_rows_that_are_left_out_are_told(folder, capsys) -> None:
    with (folder / "kernel_details.csv").open("a", newline="") as file:
        csv.writer(file).writerow([*ROWS[0][:5], "N/A", "N/A"])
    assert main(["npu", "top", str(folder)]) == 0
    said = f"ascend-otel: {folder}/kernel_details.csv: 1 row without a possible time, duration or size left out\n"
    assert capsys.readouterr() == (TOP, said)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_recording_is_sent_with_its_own_times(protocol, receiver, folder, tmp_path, monkeypatch, capsys) -> None:
    if protocol == "http/protobuf":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "the model")
    assert main(["npu", "import", str(folder)]) == 0
    assert capsys.readouterr() == (
        f"{folder}/kernel_details.csv: 3 operators, 1 collective; 10 points and events sent\n",
        "",
    )
    found = metrics(tmp_path / "got.jsonl")
    assert {name: len(data) for name, data in found.items()} == {
        "npu.operator.count": 2,
        "npu.operator.time": 2,
        "npu.operator.duration": 2,
        "npu.communication.duration": 1,
    }
    (add,) = (one for one in found["npu.operator.duration"] if attributes(one)["npu.operator.type"] == "Add")
    assert attributes(add) == {"npu.operator.type": "Add", "npu.core.type": "AI_VECTOR_CORE", "hw.id": "npu-0"}
    assert int(add["startTimeUnixNano"]) == BEGIN
    assert int(add["timeUnixNano"]) == BEGIN + 300_000
    assert (add["count"], add["sum"], add["min"], add["max"]) == ("2", 56742e-9, 3001e-9, 53741e-9)
    first = json.loads((tmp_path / "got.metrics.jsonl").read_text().splitlines()[0])["resourceMetrics"][0]
    resource = attributes(first["resource"])
    assert resource["service.name"] == "the model"
    assert (resource["npu.recording.name"], resource["npu.rank"]) == ("host_1_20251126_ascend_pt", "3")


def test_windows_and_steps_are_events(receiver, folder, tmp_path) -> None:
    assert main(["npu", "import", str(folder)]) == 0
    (line,) = (tmp_path / "got.logs.jsonl").read_text().splitlines()
    records = json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert [one["eventName"] for one in records] == ["npu.operator.window"] * 2 + ["npu.profiling.session"]
    assert [int(one["timeUnixNano"]) for one in records] == [BEGIN] * 3
    assert "npu.step.id" not in attributes(records[0])
    assert attributes(records[1])["npu.step.id"] == "50"
    (member,) = records[0]["body"]["kvlistValue"]["values"]
    operators = member["value"]["arrayValue"]["values"]
    assert [one["kvlistValue"]["values"][0]["value"]["stringValue"] for one in operators] == ["MatMulV3", "Add"]


def test_a_file_is_sent_once_to_an_endpoint_until_it_changes(receiver, folder, tmp_path, capsys, monkeypatch) -> None:
    command = ["npu", "import", str(folder)]
    assert main(command) == 0
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{folder}/kernel_details.csv: sent before"
    assert receiver.received["metrics"] == 1
    assert main([*command, "--again"]) == 0
    assert receiver.received["metrics"] == 2
    with (folder / "kernel_details.csv").open("a", newline="") as file:
        csv.writer(file).writerow(ROWS[0])
    assert main(command) == 0
    assert receiver.received["metrics"] == 3
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc_endpoint.replace("127.0.0.1", "localhost"))
    assert main(command) == 0
    assert receiver.received["metrics"] == 4


def test_an_import_goes_on_behind_what_was_sent(receiver, folder, tmp_path, capsys) -> None:
    path = broken(folder)
    assert main(["npu", "import", str(folder)]) == 2
    assert capsys.readouterr().err == f"ascend-otel: {path}: is empty\n"
    path.write_text("Component,Timestamp(us),Total Allocated(MB),Device Type\nPTA,1736408883704643.212,1.5,NPU:0\n")
    assert main(["npu", "import", str(folder)]) == 0
    sent = [f"{folder}/kernel_details.csv: sent before", f"{path}: 1 sample of memory; 2 points and events sent"]
    assert capsys.readouterr().out.splitlines() == sent
    (point,) = metrics(tmp_path / "got.jsonl")["npu.allocator.peak"]
    assert (point["asInt"], int(point["timeUnixNano"])) == (str(3 * 2**19), BEGIN)


def test_what_a_file_sent_before_has_given_is_not_taken_from_another(receiver, folder, capsys) -> None:
    assert main(["npu", "import", str(folder)]) == 0
    shutil.copy(folder / "kernel_details.csv", folder / "op_summary_1.csv")
    assert main(["npu", "import", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"{folder}/kernel_details.csv: sent before"]
    assert receiver.received["metrics"] == 1


def test_temporality_is_that_of_the_variable(receiver, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta")
    assert main(["npu", "import", str(folder)]) == 0
    text = (tmp_path / "got.metrics.jsonl").read_text()
    assert text.count('"aggregationTemporality":1') == 4
    assert '"aggregationTemporality":2' not in text


def test_an_endpoint_that_refuses_is_told_and_the_file_comes_again(receiver, folder, capsys, caplog) -> None:
    receiver.fail_first, receiver.grpc_status = 1, "INVALID_ARGUMENT"
    assert main(["npu", "import", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    host = receiver.grpc_endpoint.removeprefix("http://")
    said = (
        f"ascend-otel: the metrics endpoint {host} did not take them; what was not sent is sent by the same command\n"
    )
    assert err == said
    assert main(["npu", "import", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("10 points and events sent\n")


def instances(receiver: OtlpReceiver) -> list[str]:
    """``service.instance.id`` of each request of metrics."""
    resources = [request["resourceMetrics"][0]["resource"] for request in receiver.requests("metrics")]
    return [str(attributes(resource)["service.instance.id"]) for resource in resources]


def test_a_file_is_an_instance_of_its_own_however_often_it_is_sent(receiver, folder, monkeypatch) -> None:
    shutil.copy(folder / "kernel_details.csv", folder / "kernel_details_2.csv")
    with (folder / "kernel_details_2.csv").open("a", newline="") as file:
        csv.writer(file).writerow(ROWS[0])
    command = ["npu", "import", str(folder), "--again"]
    assert main(command) == main(command) == 0
    first, second, *later = instances(receiver)
    assert first != second
    assert later == [first, second]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine")
    assert main(command) == 0
    assert instances(receiver)[4:] == ["mine", "mine"]


@pytest.mark.parametrize(("off", "sent", "points"), [("LOGS", "metrics", 7), ("METRICS", "logs", 3)])
def test_a_signal_without_exporter_is_not_sent_until_it_has_one(
    off, sent, points, receiver, folder, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(f"OTEL_{off}_EXPORTER", "none")
    assert main(["npu", "import", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(f"; {points} points and events sent\n")
    assert dict(receiver.received) == {sent: 1}
    assert main(["npu", "import", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(": sent before\n")
    monkeypatch.delenv(f"OTEL_{off}_EXPORTER")
    assert main(["npu", "import", str(folder)]) == 0
    assert dict(receiver.received) == {"metrics": 1, "logs": 1} | {sent: 2}


def test_no_signal_at_all_is_an_error(folder, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "None")
    assert main(["npu", "import", str(folder)]) == 2
    assert capsys.readouterr() == (
        "",
        "ascend-otel: OTEL_METRICS_EXPORTER and OTEL_LOGS_EXPORTER are both none: nothing would be sent\n",
    )


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("METRICS_COMPRESSION", "foo", 'of metrics cannot be used: Invalid value "foo" for compression envvar'),
        ("LOGS_TIMEOUT", "abc", "of logs cannot be used: could not convert string to float: 'abc'"),
    ],
)
def test_a_variable_that_the_exporter_cannot_read_is_one_line(name, value, reason, folder, monkeypatch, capsys) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    assert main(["npu", "import", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"ascend-otel: an OTEL_EXPORTER_OTLP_ variable {reason}")


def test_a_protocol_of_one_signal_that_is_not_known(folder, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "json")
    assert main(["npu", "import", str(folder)]) == 2
    said = "ascend-otel: OTEL_EXPORTER_OTLP_LOGS_PROTOCOL is 'json'; set grpc or http/protobuf\n"
    assert capsys.readouterr().err == said


def test_a_protocol_that_is_not_known(folder, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    assert main(["npu", "import", str(folder)]) == 2
    assert capsys.readouterr().err == (
        "ascend-otel: OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json'; set grpc or http/protobuf\n"
    )


def test_a_state_that_cannot_be_written_is_told_before_anything_is_sent(receiver, folder, tmp_path, capsys) -> None:
    (tmp_path / "state").write_text("a file")
    assert main(["npu", "import", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "ascend-otel: the list of what was sent cannot be kept: [Errno 20] Not a directory: "
        f"'{tmp_path}/state/ascend-otel'; set XDG_STATE_HOME\n"
    )
    assert receiver.received["metrics"] == 0


def test_a_password_in_the_endpoint_is_not_printed(folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    assert main(["npu", "import", str(folder)]) == 2
    said = "".join(capsys.readouterr())
    assert "the metrics endpoint http://127.0.0.1:1/v1/metrics did not take them" in said
    assert "secret" not in said
    assert "secret" not in (tmp_path / "state" / "ascend-otel" / "npu-import.jsonl").read_text()


def test_json_lines_hold_what_would_be_sent(folder, capsys, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert main(["npu", "import", "--json", str(folder)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("metric") or line["event"] for line in lines] == [
        "npu.operator.count", "npu.operator.time", "npu.operator.duration",
        "npu.operator.count", "npu.operator.time", "npu.operator.duration",
        "npu.communication.duration", "npu.operator.window", "npu.operator.window", "npu.profiling.session",
    ]  # fmt: skip
    assert lines[0] == {
        "metric": "npu.operator.count",
        "unit": "{operator}",
        "attributes": {"npu.operator.type": "Add", "npu.core.type": "AI_VECTOR_CORE", "hw.id": "npu-0"},
        "start_time_unix_nano": BEGIN,
        "time_unix_nano": BEGIN + 300_000,
        "value": 2,
        "resource": {"npu.recording.name": "host_1_20251126_ascend_pt", "npu.rank": 3},
        "file": f"{folder}/kernel_details.csv",
    }
    assert lines[2]["value"]["count"] == 2


def test_a_reader_of_the_lines_may_stop(folder) -> None:
    program = f"{sys.executable} -m ascend_opentelemetry.cli npu import --json {folder} | head -n 1"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["metric"] == "npu.operator.count"
    assert done.stderr == ""


@pytest.mark.parametrize("action", ["top", "import --json"])
def test_a_reader_that_has_gone_before_the_first_line_is_no_error(action, folder) -> None:
    command = f"{sys.executable} -m ascend_opentelemetry.cli npu {action} {folder}"
    program = f"(PYTHONUNBUFFERED= {command}; echo $? >&2) | true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "0\n")


@pytest.mark.parametrize("action", ["top", "top --json", "import --json"])
def test_an_output_that_cannot_be_written_is_one_line(action, folder) -> None:
    program = f"{sys.executable} -m ascend_opentelemetry.cli npu {action} {folder} > /dev/full"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    said = "ascend-otel: the output cannot be written: [Errno 28] No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_an_import_goes_on_when_the_reader_of_its_lines_has_gone(receiver, folder, tmp_path) -> None:
    shutil.copy(folder / "kernel_details.csv", folder / "kernel_details_2.csv")
    command = f"{sys.executable} -m ascend_opentelemetry.cli npu import {folder}"
    program = f"({command}; echo $? >&2) | true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "0\n")
    listed = (tmp_path / "state" / "ascend-otel" / "npu-import.jsonl").read_text().split()
    assert [name for name in ("kernel_details.csv", "kernel_details_2.csv") if f'"{folder}/{name}",' in listed] == [
        "kernel_details.csv",
        "kernel_details_2.csv",
    ]


def test_an_interrupt_is_one_line(folder, tmp_path) -> None:
    path = tmp_path / "kernel_details.csv"
    os.mkfifo(path)
    command = [sys.executable, "-m", "ascend_opentelemetry.cli", "npu", "top", str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    with path.open("w"):  # it waits for what will be written
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("", "ascend-otel: interrupted\n", 130)


def test_what_steers_a_terminal_is_not_printed(folder, tmp_path, capsys) -> None:
    row = ["50", "0", "Add", "\x1b[2JAdd", "AI_CORE", "1736408883704643.212", "1"]
    with (folder / "kernel_details.csv").open("a", newline="") as file:
        csv.writer(file).writerow(row)
    (folder / "op_statistic\x1b[2J.csv").write_text("\x1b[2J,b\n1,2\n")
    assert main(["npu", "top", str(folder / "op_statistic\x1b[2J.csv")]) == 2
    assert main(["npu", "top", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "\\x1b[2JAdd" in out
    assert err.endswith("op_statistic\\x1b[2J.csv: is a csv, but none with operators or memory of an NPU: its columns are "
                        "\\x1b[2J, b, ...\n")  # fmt: skip
    assert "\x1b" not in out + err


def test_the_progress_bar_is_for_terminals(folder) -> None:
    command = [sys.executable, "-m", "ascend_opentelemetry.cli", "npu", "top", str(folder)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr == ""
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, text=True)
    assert process.communicate(timeout=60)[0] == TOP
    os.set_blocking(terminal, False)
    shown = os.read(terminal, 4096).decode()
    os.close(side)
    os.close(terminal)
    assert "kernel_details.csv" in shown


@pytest.mark.parametrize("option", ["--again", "--json"])
def test_lines_do_not_stand_behind_the_progress_bar(option, receiver, folder) -> None:
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("4H", 24, 300, 0, 0))
    command = [sys.executable, "-m", "ascend_opentelemetry.cli", "npu", "import", option, str(folder)]
    subprocess.run(command, stdout=side, stderr=side, timeout=60, check=True)
    os.close(side)
    os.set_blocking(terminal, False)
    shown = os.read(terminal, 2**16).decode().split("\r\n")
    os.close(terminal)
    assert "kernel_details.csv:   0%" in shown[0]
    begins = {"--again": f"{folder}/kernel_details.csv: 3 operators", "--json": '{"metric": "npu.operator.count"'}
    assert shown[0].rpartition("\r")[2].startswith(begins[option])


def test_neither_torch_nor_the_sdk_is_imported_to_print_operators(folder) -> None:
    program = (
        f"import json, sys\nfrom ascend_opentelemetry.cli import main\nmain(['npu', 'top', {str(folder)!r}])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    heavy = ("vllm", "torch", "torch_npu", "grpc", "requests", "opentelemetry.sdk", "opentelemetry.exporter")
    assert [name for name in loaded for prefix in heavy if name == prefix or name.startswith(f"{prefix}.")] == []
