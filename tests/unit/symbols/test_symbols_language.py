"""Every expression that the guide, the reference and vllm-ascend's symbols file write: value, type, error."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_opentelemetry.symbols import Attribute, ExpressionError, bind, compile_expression, load

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the guide and the files of others are not here")


class Size(tuple):
    __module__ = "torch"


class Tensor:
    __module__ = "torch"
    shape = Size((4, 8))


class Runner:
    """Stands for ``NPUModelRunner``, with all that the guide's expressions name."""

    device = "npu:0"
    dp_rank = 1
    input_batch = SimpleNamespace(_req_ids=["a", "b", "c"])

    def execute_model(self, input_ids, input_tensor=None, data=None, training=None, **more) -> Any: ...


GUIDE_CALL = (
    (Runner(), [7, 8, 9]),
    {"input_tensor": Tensor(), "data": {"k": 1, "j": 2}, "training": 1, "batch_size": 4, "n": "12"},
    [SimpleNamespace(input_ids=[1, 2])],
)

# expression, value, error of a call without arguments (but self) and with None as its result
GUIDE = [
    ("args[0] | attr device | str", "npu:0", None),
    ("args[0] | attr dp_rank | str", "1", None),
    ("args[0] | attr input_batch | attr _req_ids | len", 3, None),
    ("len(input_ids)", 3, KeyError),
    ("input_ids", "[7, 8, 9]", KeyError),
    ("len(return) | str", "1", None),
    ("str(len(return))", "1", None),
    ("return[0] | attr input_ids | len", 2, None),
    ("return[0]", "namespace(input_ids=[1, 2])", None),
    ("input_tensor | attr shape | str", "torch.Size([4, 8])", None),
    ("kwargs['batch_size']", 4, KeyError),
    ("training | bool", True, None),
    ("data | attr items | len | str", "2", None),
]

# what the reference found of ms_service_profiler 26.0.0, whether it works there or not
REFERENCE = [
    ("args[0] | attr device | str", "npu:0", None),
    ("args[0] | attr input_batch | attr _req_ids | len", 3, None),
    ("kwargs['batch_size']", 4, KeyError),
    ("this.device", "npu:0", None),
    ("args[1][0]", 7, IndexError),
    ("len(args[1])", 3, IndexError),
    ("int(kwargs['n'])", 12, KeyError),
    ("len(str(args[1]))", 9, IndexError),
    ("return | len", 1, None),
    ("return | str", "[namespace(input_ids=[1, 2])]", None),
    ("len(input_ids)", 3, KeyError),
    ("input_ids | len", 3, KeyError),
    ("data", "{'k': 1, 'j': 2}", None),
    ("training", 1, None),
    ("len(return) | str", "1", None),
    ("return[0] | attr input_ids | len", 2, None),
    ("training | bool", True, None),
    ("data | attr items | len", 2, None),
    ("args[-1]", "[7, 8, 9]", None),
    ("attr(this, 'device')", "npu:0", None),
    ("attr(attr(this, 'input_batch'), '_req_ids') | len", 3, None),
    ("len(attr(args[0], 'device'))", 5, None),
    ("this | attr missing | str", None, None),
]


class Status(enum.IntEnum):
    WAITING_FOR_REMOTE_KVS = 3

    def __str__(self) -> str:
        return self.name


OUTPUT = SimpleNamespace(
    num_scheduled_tokens={"r1": 5},
    requests={"r1": [1]},
    requests_to_send={"r2": 1.5},
    reqs_in_batch={"r1"},
    kv_connector_output=SimpleNamespace(finished_sending=set(), finished_recving={"r3"}),
)


class Request(dict):
    """Whatever ``args[1]`` is in the file: a request, its metadata, or a message."""

    request_id = "r1"
    kv_transfer_params = {"do_remote_prefill": True, "remote_port": 7}  # noqa: RUF012
    status = Status.WAITING_FOR_REMOTE_KVS
    requests = {"r1": [1]}  # noqa: RUF012
    reqs_in_batch = {"r1"}  # noqa: RUF012
    finished_sending = None
    finished_recving = {"r3"}  # noqa: RUF012


THIS = SimpleNamespace(
    device=SimpleNamespace(index=5),
    dp_rank=0,
    tp_rank=2,
    kv_role="kv_producer",
    local_engine_id="engine-0",
    input_batch=SimpleNamespace(req_ids=["r1", "r2"]),
    finished_requests={"r9"},
    reqs_to_process=frozenset(),
    finished_recving_kv_req_ids=set(),
    failed_recving_kv_req_ids={"r8"},
    _connector_metadata=OUTPUT,
    _recv_remaining_count={"r3": 1},
    _send_remaining_count={},
    _expected_finished_count=8,
)
REMOTE = {
    "request_id": "r1",
    "remote_request_id": "r1-remote",
    "remote_engine_id": "engine-1",
    "remote_host": "192.0.2.1",
    "remote_handshake_port": 30000,
    "offset": 0,
}
VLLM_ASCEND_CALL = ((THIS, Request(remote_request_id="r1-remote"), "blocks", 64), REMOTE, OUTPUT)

VLLM_ASCEND = [
    ("args[1] | attr finished_recving | str", "{'r3'}", IndexError),
    ("args[1] | attr finished_sending | str", None, IndexError),
    ("args[1] | attr kv_transfer_params | str", "{'do_remote_prefill': True, 'remote_port': 7}", IndexError),
    ("args[1] | attr reqs_in_batch | str", "{'r1'}", IndexError),
    ("args[1] | attr request_id | str", "r1", IndexError),
    ("args[1] | attr requests | str", "{'r1': [1]}", IndexError),
    ("args[1] | attr status | str", "WAITING_FOR_REMOTE_KVS", IndexError),
    ("args[1] | str", "{'remote_request_id': 'r1-remote'}", IndexError),
    ("args[1]['remote_request_id'] | str", "r1-remote", IndexError),
    ("args[3] | str", "64", IndexError),
    ("kwargs['offset'] | str", "0", KeyError),
    ("kwargs['remote_engine_id'] | str", "engine-1", KeyError),
    ("kwargs['remote_handshake_port'] | str", "30000", KeyError),
    ("kwargs['remote_host'] | str", "192.0.2.1", KeyError),
    ("kwargs['remote_request_id'] | str", "r1-remote", KeyError),
    ("kwargs['request_id'] | str", "r1", KeyError),
    ("return | attr kv_connector_output | attr finished_recving | str", "{'r3'}", None),
    ("return | attr kv_connector_output | attr finished_sending | str", "set()", None),
    ("return | attr num_scheduled_tokens | str", "{'r1': 5}", None),
    ("return | attr reqs_in_batch | str", "{'r1'}", None),
    ("return | attr requests | str", "{'r1': [1]}", None),
    ("return | attr requests_to_send | str", "{'r2': 1.5}", None),
    ("return | str", str(OUTPUT), None),
    ("this | attr _connector_metadata | attr reqs_in_batch | str", "{'r1'}", None),
    ("this | attr _connector_metadata | attr requests | str", "{'r1': [1]}", None),
    ("this | attr _expected_finished_count | str", "8", None),
    ("this | attr _recv_remaining_count | str", "{'r3': 1}", None),
    ("this | attr _send_remaining_count | str", "{}", None),
    ("this | attr device | attr index | str", "5", None),
    ("this | attr dp_rank | str", "0", None),
    ("this | attr failed_recving_kv_req_ids | str", "{'r8'}", None),
    ("this | attr finished_recving_kv_req_ids | str", "set()", None),
    ("this | attr finished_requests | str", "{'r9'}", None),
    ("this | attr input_batch | attr req_ids | str", "['r1', 'r2']", None),
    ("this | attr kv_role | str", "kv_producer", None),
    ("this | attr local_engine_id | str", "engine-0", None),
    ("this | attr reqs_to_process | str", "frozenset()", None),
    ("this | attr tp_rank | str", "2", None),
]

TABLE = [
    *(("guide", GUIDE_CALL, *row) for row in GUIDE),
    *(("reference", GUIDE_CALL, *row) for row in REFERENCE),
    *(("vllm-ascend", VLLM_ASCEND_CALL, *row) for row in VLLM_ASCEND),
]
each = pytest.mark.parametrize(
    ("call", "text", "value", "bare"),
    [pytest.param(call, text, value, bare, id=f"{source}: {text}") for source, call, text, value, bare in TABLE],
)


def evaluator(text: str, function: Callable[..., Any] = Runner.execute_model) -> tuple[Any, list[Exception]]:
    errors: list[Exception] = []
    attribute = Attribute("x", "x", compile_expression(text))
    return bind([attribute], function, lambda _, error: errors.append(error)), errors


@each
def test_value_and_type(call: Any, text: str, value: Any, bare: Any) -> None:
    values, errors = evaluator(text)
    (got,) = values(*call)
    assert (got, type(got), errors) == (value, type(value), [])


@each
def test_a_call_that_has_nothing_of_it(call: Any, text: str, value: Any, bare: type[Exception] | None) -> None:
    values, errors = evaluator(text)
    this = object()
    there = str(this) if text == "args[-1]" else None
    assert values((this,), {}, None) == values((this,), {}, None) == (there,)
    assert [type(error) for error in errors] == ([] if bare is None else [bare])


REFUSED = [
    # works in ms_service_profiler 26.0.0, by eval; `args[1]` says the same
    ("[x for x in args[1]]", 1, "only a name, [index], .attribute"),
    # warned about there as well
    ("this | upper", 8, "unknown operation 'upper'"),
    ("kwargs['n'] * 2", 1, "only a name, [index], .attribute"),
    ("this.__class__", 6, "'__class__': names with two underscores"),
    ("attr(this, '__class__')", 1, "'__class__' cannot be used as a name"),
    ("attr(this, 'a.b')", 1, "'a.b' cannot be used as a name"),
    ("attr(this, name)", 1, "only len(x), str(x), int(x), float(x), bool(x), attr(x, 'name') can be called"),
    ("attr(this, b'name')", 1, "only len(x)"),
    ("attr(this)", 1, "only len(x)"),
    ("attr(this, 'a', 'b')", 1, "only len(x)"),
    ("attr(*this, 'a')", 6, "only a name"),
    ("attr(obj=this, name='a')", 1, "only len(x)"),
    ("open(args[1])", 1, "only len(x)"),
]


@pytest.mark.parametrize(("text", "position", "message"), REFUSED, ids=[text for text, *_ in REFUSED])
def test_refused(text: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert (caught.value.position, str(caught.value).startswith(message)) == (position, True)


def test_a_parameter_that_the_function_lacks() -> None:
    values, errors = evaluator("nonexist | str")
    assert values(*GUIDE_CALL) == (None,)
    (error,) = errors
    assert type(error) is ExpressionError
    assert str(error).startswith("Runner.execute_model has no parameter 'nonexist'; its parameters: self, input_ids, ")


def written(text: str) -> set[str]:
    return set(re.findall(r"expr: (.+)$", text, re.MULTILINE))


def expressions_of(rows: Iterable[tuple[Any, ...]]) -> set[str]:
    return {row[0] for row in rows}


@needs_shared
def test_the_table_has_all_of_the_guide() -> None:
    guide = (SHARED / "reference" / "service-profiling-guide.md").read_text(encoding="utf-8")
    notes = set(re.findall(r"^\d\. `([^`]+)`: get", guide, re.MULTILINE))
    found = written(guide) | notes
    assert len(found) == 10
    assert found <= expressions_of(GUIDE)


@needs_shared
def test_the_table_has_all_of_the_reference() -> None:
    page = (SHARED / "reference" / "native-layout.md").read_text(encoding="utf-8")
    table = page.partition("| expression | result |")[2].partition("\n\n")[0]
    cells = [re.split(r"(?<!\\)\|", row)[1] for row in table.splitlines()[2:]]
    found = {text.replace("\\|", "|") for cell in cells for text in re.findall(r"`([^`]+)`", cell)}
    assert len(found) == 21
    tested = expressions_of(REFERENCE) | expressions_of(REFUSED) | {"nonexist | str", "return['key']"}
    assert found <= tested, found - tested


@needs_shared
def test_the_table_has_all_of_vllm_ascend() -> None:
    path = SHARED / "data" / "symbols" / "vllm-ascend-main.yaml"
    symbols, problems = load(path)
    found = [one.expr.text for symbol in symbols for one in symbol.attributes]
    assert (len(found), problems) == (66, [])
    assert set(found) == written(path.read_text(encoding="utf-8")) == expressions_of(VLLM_ASCEND)


def test_a_result_by_key() -> None:
    values, errors = evaluator("return['key']")
    assert [values((), {}, result) for result in ({"key": 2.5}, None, {})] == [(2.5,), (None,), (None,)]
    assert [type(error) for error in errors] == [KeyError]
