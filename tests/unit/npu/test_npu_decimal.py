from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_opentelemetry.npu.recordings._decimal import to_bytes, to_ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1736408883704643.212\t", 1736408883704643212),  # a float has ...250
        ("1695115378713661", 1695115378713661000),
        ("53.7", 53700),
        ("1881.080000", 1881080),
        ("5798.5", 5798500),
        ("5.7985", 5798),  # half to even
        ("5.7995", 5800),
        ("-0.5", -500),
        (" 0 ", 0),
        ("2e-05", 0),
        ("1.5e3", 1500000),
    ],
)
def test_microseconds_keep_their_nanoseconds(text, ns) -> None:
    assert to_ns(text) == ns


def test_milliseconds_have_six_digits_more_than_nanoseconds() -> None:
    assert to_ns("79.08952021875", 6) == 79089520


@pytest.mark.parametrize("text", ["", "-", "N/A", "1.2.3", "1,5", "nan", "sNaN", "inf", "1e30", "1e999999999", "1.5x"])
def test_what_is_no_number_is_refused_with_its_text(text) -> None:
    with pytest.raises(ValueError, match="is no number") as refused:
        to_ns(text)
    assert repr(text) in str(refused.value)


@given(st.decimals(min_value=-(10**15), max_value=10**15, places=5, allow_nan=False))
def test_any_decimal_is_rounded_as_the_decimal_module_does(value) -> None:
    assert to_ns(str(value)) == int((value * 1000).to_integral_value(ROUND_HALF_EVEN))


def test_mebibytes_are_whole_bytes() -> None:
    assert to_bytes("2109.6015625", 2**20) == 2212077568
    assert to_bytes("18816.5", 2**10) == 19268096
    assert to_bytes(str(Decimal(1) / 3), 2**20) == 349525
