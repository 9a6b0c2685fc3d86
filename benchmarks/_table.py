"""Ratios of interleaved rounds, as the tables that the benchmarks print."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

#: name -> seconds (or whatever unit) of each round; the n-th rounds of all names ran right after each other.
Rounds = Mapping[str, Sequence[float]]


def interleaved(rounds: int, ways: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run all ways in turn, forwards and backwards, after one round that does not count."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            value = ways[name]()
            if number >= 0:
                measured[name].append(value)
    return measured


def per_round(measured: Rounds, value: Callable[..., float], *names: str) -> list[float]:
    """``value`` of the rounds called ``names``, for each round."""
    return [value(*row) for row in zip(*(measured[name] for name in names), strict=True)]


def show_rounds(title: str, unit: str, measured: Rounds) -> None:
    """Print what was measured."""
    print(f"\n{title}\n{unit:44}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in measured.items():
        print(f"{name:44}{statistics.median(values):10.3f}{min(values):10.3f}{max(values):10.3f}")


def show_ratios(rows: Sequence[tuple[str, Sequence[float], float | None]]) -> bool:
    """Print ratios with their goals, each an upper limit for the median; whether all are met."""
    met = True
    print(f"\n{'ratio':44}{'median':>10}{'middle half':>16}{'min':>9}{'max':>9}{'goal':>9}  met")
    for name, ratios, goal in rows:
        middle = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4)
        fine = goal is None or middle <= goal
        met &= fine
        verdict = "" if goal is None else "yes" if fine else "no"
        half = f"{_text(low)} - {_text(high)}"
        limit = "" if goal is None else f"<= {_text(goal)}"
        print(
            f"{name:44}{_text(middle):>10}{half:>16}{_text(min(ratios)):>9}{_text(max(ratios)):>9}{limit:>9}  {verdict}"
        )
    return met


def _text(ratio: float) -> str:
    return f"1/{1 / ratio:.3g}" if 0 < ratio < 0.5 else f"{ratio:.3f}"
