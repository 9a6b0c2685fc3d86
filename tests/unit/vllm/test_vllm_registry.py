"""The lists by which the handlers become hooks and types get their switches."""

from __future__ import annotations

import importlib
import pkgutil

from ascend_opentelemetry import vllm
from ascend_opentelemetry.recorder import RecordType
from ascend_opentelemetry.vllm import _output_processor, _requests


def test_every_record_type_gets_its_switches() -> None:
    found = set[RecordType]()
    for module in pkgutil.iter_modules(vllm.__path__, f"{vllm.__name__}."):
        names = vars(importlib.import_module(module.name)).values()
        found.update(value for value in names if isinstance(value, RecordType))
        found.update(
            v for value in names if isinstance(value, dict) for v in value.values() if isinstance(v, RecordType)
        )
    assert found == set(vllm.TYPES)


def test_each_function_is_hooked_once() -> None:
    targets = [(hooked.module, hooked.qualname) for hooked in vllm.HOOKED]
    assert sorted(set(targets)) == sorted(targets)


def test_native_rows_come_only_when_the_symbols_file_names_their_handler() -> None:
    asked = {record_type for types in vllm.NATIVE_TYPES.values() for record_type in types}
    assert {record_type for record_type in vllm.TYPES if record_type.rows is not None} == asked
    assert [record_type for record_type in vllm.TYPES if record_type.native] == []


def test_the_ends_of_requests_are_noted_as_long_as_one_is_open() -> None:
    ends = (_output_processor.Finished, _output_processor.AbortRequests, _output_processor.PropagateError)
    assert {handler.switch for handler in ends} == {_requests.tracker}
    assert _requests.tracker.on is False
