"""Decimal text as whole numbers: a float would lose the nanoseconds of a time in microseconds."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

_TIME_DIGITS = {"ns": 0, "us": 3, "ms": 6, "s": 9}
#: Profilers write MB and mean MiB.
_SIZE_BYTES = {"b": 1, "byte": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}


def to_ns(text: str, digits: int = 3) -> int:
    """Return ns, the half rounded to even.

    Args:
        text: a decimal; blanks around it, such as the tab that profilers add, do not count.
        digits: how many decimal digits the unit of ``text`` is above ns; 3 for us.

    Raises:
        ValueError: it is no finite decimal.
    """
    whole, _, fraction = text.strip().partition(".")
    if whole.lstrip("-").isdecimal() and len(fraction) <= digits and (not fraction or fraction.isdecimal()):
        return int(whole + fraction.ljust(digits, "0"))
    return _whole(text, Decimal(1).scaleb(digits))


def to_bytes(text: str, unit: int) -> int:
    """Return bytes, the half rounded to even.

    Args:
        text: a decimal.
        unit: bytes of its unit.

    Raises:
        ValueError: it is no finite decimal.
    """
    return _whole(text, Decimal(unit))


def _whole(text: str, factor: Decimal) -> int:
    try:
        value = Decimal(text.strip()) * factor
        if value.is_finite() and value.adjusted() < 19:
            return int(value.to_integral_value(ROUND_HALF_EVEN))
    except ArithmeticError:  # no decimal, or an exponent without end
        pass
    raise ValueError(f"{text.strip()[:40]!r} is no number")


def digits_of(unit: str) -> int:
    """Decimal digits between a unit of time, in lower case, and ns.

    Raises:
        ValueError: it is none.
    """
    return _known(_TIME_DIGITS, unit)


def bytes_of(unit: str) -> int:
    """Bytes of a unit of size, in lower case.

    Raises:
        ValueError: it is none.
    """
    return _known(_SIZE_BYTES, unit)


def _known(units: dict[str, int], unit: str) -> int:
    if unit not in units:
        raise ValueError(f"the unit {unit!r} of a column is not known")
    return units[unit]
