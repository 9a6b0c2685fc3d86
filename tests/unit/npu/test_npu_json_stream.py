from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_opentelemetry.npu.recordings import _json_stream
from ascend_opentelemetry.npu.recordings._json_stream import JsonStream

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json_stream, "_CHUNK", 1)


def elements(text: str) -> list[object]:
    stream = JsonStream(io.StringIO(text))
    stream.expect("[")
    found = [stream.value()]
    while stream.take(","):
        found.append(stream.value())
    stream.expect("]")
    assert stream.peek() == ""
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(values, min_size=1, max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_values_come_as_they_are_wherever_a_chunk_ends(expected, indent, ascii_only) -> None:
    assert elements(json.dumps(expected, indent=indent, ensure_ascii=ascii_only)) == expected


def test_a_number_goes_on_in_the_next_chunk_and_decimals_stay_text() -> None:
    assert elements("[1736408883704643.212, 123456, -1]") == ["1736408883704643.212", 123456, -1]


@pytest.mark.parametrize("text", ["[", "[1", "[1,", '[{"a": 1', '["abc', "[tru"])
def test_a_text_that_ends_early(text) -> None:
    with pytest.raises(EOFError):
        elements(text)


@pytest.mark.parametrize("text", ['[{"a": X, "b": "an object that goes on for a while"}]', "[1 2]", "{}"])
def test_a_text_that_is_wrong(text) -> None:
    with pytest.raises(ValueError, match=r"no JSON|is missing before"):
        elements(text)


def test_a_value_without_end_is_not_taken_into_memory(monkeypatch) -> None:
    monkeypatch.setattr(_json_stream, "_MAX_VALUE", 1000)
    with pytest.raises(ValueError, match="no JSON: Unterminated string"):
        elements('["' + "x" * 5000 + '"]')
