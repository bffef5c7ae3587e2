"""Numbers of several rounds: their median and range, percentiles of one round, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from attrs import frozen


@frozen
class Series:
    """One figure as every round gave it; at least one."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Series:
        """The series of these values, in the order of the rounds.

        Raises:
            ValueError: there are none.
        """
        series = cls(tuple(values))
        if not series.values:
            raise ValueError("a figure without a single round")
        return series

    @property
    def median(self) -> float:
        """The middle one, or the mean of the two in the middle."""
        return median(self.values)

    def text(self) -> str:
        """The median, and in brackets the least and the greatest where there was more than one round."""
        if len(self.values) == 1:
            return number(self.values[0])
        return f"{number(self.median)} ({number(min(self.values))}-{number(max(self.values))})"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the values are not over.

    Args:
        values: in any order, at least one.
        percent: over 0 and at most 100.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def number(value: float) -> str:
    """A number with three digits that mean something, never in powers of ten; thousands are set apart by a comma."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 or size == 0 else f"{value:.3f}"
