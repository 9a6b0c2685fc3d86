"""Reads ``communication.json``, ``trace_view.json`` and ``msprof_*.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ascend_opentelemetry.npu.operators._names import payload
from ascend_opentelemetry.npu.operators._self_times import SelfTimes
from ascend_opentelemetry.npu.recordings._decimal import to_bytes, to_ns
from ascend_opentelemetry.npu.recordings._json_stream import JsonStream
from ascend_opentelemetry.npu.recordings._sink import BATCH, Batch, Progress, RecordingError, RecordingSink

#: ``Task Type`` of events that are compute operators, not copies, events and parts of collectives.
_COMPUTE = frozenset({
    "AI_CORE", "AI_VECTOR_CORE", "AI_CPU", "MIX_AIC", "MIX_AIV", "AIV_SQE", "DSA_SQE", "KERNEL_AICORE", "KERNEL_AIVEC",
    "KERNEL_MIX_AIC", "KERNEL_MIX_AIV", "KERNEL_AICPU",
})  # fmt: skip
#: Links whose sizes are no part of another one: SDMA is the sum of HCCS, PCIE and SIO.
_LINKS = ("SDMA", "RDMA")
#: What PyTorch's own profiler writes before its events: the time that theirs count from, ns since 1970.
_BASE_TIME = "baseTimeNanoseconds"
#: ``cat`` of its operators, and the core type that they get.
_HOST_CATEGORY, _HOST_CORE = "cpu_op", "CPU"
#: msprof writes decimal megabytes here.
_MEGABYTE = 10**6


def read(path: Path, sink: RecordingSink, progress: Progress) -> None:
    """Read a file.

    Raises:
        RecordingError: it is empty, cut off, no JSON or of something else.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as binary, TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:

            def tell() -> None:
                progress(binary.tell() / max(size, 1))

            stream = JsonStream(text)
            if not stream.peek():
                raise RecordingError(path, "is empty")
            events = Batch(sink.operators), Batch(sink.communications)
            if stream.take("["):
                known = _trace(stream, events, sink, tell)
            else:
                stream.expect("{")
                known = _object(stream, events, sink, tell)
            for batch in events:
                batch.flush()
        if not known:
            raise RecordingError(path, "is JSON, but no trace and no communication of an NPU")
    except EOFError as error:
        raise RecordingError(path, "is cut off; copy or export it again") from error
    except UnicodeDecodeError as error:
        raise RecordingError(path, "is no text in UTF-8; save it as UTF-8, or export it again") from error
    except KeyError as error:
        raise RecordingError(path, f"cannot be read: {error} is missing") from error
    except (ValueError, OverflowError, TypeError, AttributeError, RecursionError) as error:
        raise RecordingError(path, f"cannot be read: {error}") from error
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror or error}") from error


def _object(stream: JsonStream, events: tuple[Batch, Batch], sink: RecordingSink, tell: Any) -> bool:
    """The members of a trace object or of ``communication.json``."""
    known = False
    base: int | None = None
    transfers = Batch(sink.transfers)
    for key in _members(stream):
        if key == "traceEvents":
            stream.expect("[")
            known |= _trace(stream, events, sink, tell, base)
        elif key == _BASE_TIME:
            base = int(stream.value())
        elif stream.take("{"):
            for _ in _members(stream):
                if not stream.take("{"):
                    stream.value()
                    continue
                for name in _members(stream):
                    known |= _collective(name, stream.value(), events[1], transfers, sink)
        else:
            stream.value()
    transfers.flush()
    return known


def _members(stream: JsonStream) -> Iterator[str]:
    """Names of the members of an object whose brace was taken; the caller takes each value."""
    if stream.take("}"):
        return
    while True:
        name = str(stream.value())
        stream.expect(":")
        yield name
        if not stream.take(","):
            stream.expect("}")
            return


def _collective(name: str, value: Any, batch: Batch, transfers: Batch, sink: RecordingSink) -> bool:
    """One operation of ``communication.json``: ``hcom_allReduce__586_0_1@<group>``."""
    if not isinstance(value, Mapping) or "Communication Time Info" not in value:
        return False
    times: Mapping[str, Any] = value["Communication Time Info"]
    if "@" not in name:  # the sum over all operations of a step
        return True
    word, _, group = name.partition("@")
    start = to_ns(str(times["Start Timestamp(us)"]))
    if sink.wants("communication"):
        batch.add((word, "", group, ""), start, to_ns(str(times["Elapse Time(ms)"]), 6), 0)
    links: Mapping[str, Any] = value.get("Communication Bandwidth Info") or {}
    for link in _LINKS if sink.wants("transfers") else ():
        found = links.get(link)
        if found and (size := to_bytes(str(found["Transit Size(MB)"]), _MEGABYTE)):
            transfers.add((word, link, group), start, to_ns(str(found["Transit Time(ms)"]), 6), size)
    return True


def _trace(
    stream: JsonStream, events: tuple[Batch, Batch], sink: RecordingSink, tell: Any, base: int | None = None
) -> bool:
    """Events of the Chrome trace format; decimals in us, as text or as numbers.

    Args:
        stream: after the bracket.
        events: take operators and collectives.
        sink: what is wanted.
        tell: called now and then.
        base: the time that times count from, in a trace of PyTorch's own profiler, where those on the host are operators
            too; torch_npu writes them only beside those of the NPU, which they launch.
    """
    operators, communications = events
    host = SelfTimes[str](lambda name, start, own: operators.add((name, None, _HOST_CORE, ""), start, own))
    known = number = 0
    wants_operators, wants_communications = sink.wants("operators"), sink.wants("communication")
    if stream.take("]"):
        return False
    while True:
        event = stream.value()
        number += 1
        if not number % BATCH:
            tell()
        if isinstance(event, dict):
            known += "ph" in event
            arguments = event.get("args")
            if event.get("ph") == "X" and isinstance(arguments, dict):
                name = str(event.get("name", ""))
                core = arguments.get("Task Type")
                if base is not None and event.get("cat") == _HOST_CATEGORY:
                    if wants_operators:
                        host.add(event["tid"], name, base + to_ns(str(event["ts"])), to_ns(str(event["dur"])))
                elif core in _COMPUTE and not name.startswith("hcom_"):
                    if wants_operators:
                        operators.add((name, None, core, ""), to_ns(str(event["ts"])), to_ns(str(event["dur"])))
                elif wants_communications and name.startswith("hcom_") and "data_type" in arguments:
                    data_type = str(arguments["data_type"])
                    size = payload(data_type, int(arguments.get("count") or 0))
                    times = to_ns(str(event["ts"])), to_ns(str(event["dur"]))
                    communications.add((name, data_type, "", ""), *times, size)
        if not stream.take(","):
            stream.expect("]")
            host.end()
            return bool(known)
