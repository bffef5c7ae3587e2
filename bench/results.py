"""What came out: a row for each server, checks against the aims, and the one table of it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import field, frozen

from bench.figures import Series, number

PIPCACHE: Final = "pipcache"
NGINX: Final = "nginx"

COLUMNS: Final[Mapping[str, str]] = {
    "rate": "requests/s",
    "speed": "MB/s",
    "wall": "wall s",
    "cpu_request": "CPU us/request",
    "cpu_gb": "CPU s/GB",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "slowest": "slowest ms",
    "first_byte": "first byte ms",
    "behind": "behind upstream's last byte ms",
    "transfers": "upstream transfers",
    "memory": "RSS MB",
    "growth": "RSS grown by MB",
}
"""Every figure that a scenario may give, and the head of its column."""

_MARKS: Final[Mapping[bool | None, str]] = {True: "yes", False: "**NO**", None: "not there yet"}


@frozen
class Row:
    """What one server did: figures by their name in ``COLUMNS``."""

    server: str
    figures: Mapping[str, Series]


@frozen
class Check:
    """One aim. ``is_met`` is None where pipcache lacks what it would take; then ``found`` says what."""

    what: str
    found: str
    aim: str
    is_met: bool | None


@frozen
class Work:
    """One piece of work that servers were given, and what is asked of pipcache there."""

    name: str
    rows: tuple[Row, ...] = ()
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = field(default=())


def row(server: str, rounds: Sequence[Mapping[str, float]]) -> Row:
    """One server's row, out of what each round gave."""
    names = [name for name in COLUMNS if any(name in each for each in rounds)]
    return Row(server, {name: Series.of(each[name] for each in rounds if name in each) for name in names})


def ratio_check(rows: Iterable[Row], figure: str, aim: float, *, at_most: bool = False, other: str = NGINX) -> Check:
    """Compare pipcache's median of a figure with another server's.

    Args:
        rows: of one work.
        figure: a name in ``COLUMNS``.
        aim: the ratio of pipcache's median to the other's that is wanted.
        at_most: the ratio should not be over the aim; else it should not be under it.
        other: the server to compare with.
    """
    medians = {each.server: each.figures[figure].median for each in rows if figure in each.figures}
    theirs = medians[other]
    ratio = medians[PIPCACHE] / theirs if theirs else float("inf")
    is_met = ratio <= aim if at_most else ratio >= aim
    return Check(
        f"{COLUMNS[figure]}, {PIPCACHE} / {other}", number(ratio), f"{'<=' if at_most else '>='} {number(aim)}", is_met
    )


def limit_check(what: str, value: float, most: float, unit: str) -> Check:
    """Compare a figure of pipcache's with a limit that stands for itself."""
    return Check(what, f"{number(value)} {unit}", f"<= {number(most)} {unit}", value <= most)


def missing(what: str, aim: str, lacking: str) -> Check:
    """A check that pipcache cannot be put to yet; ``lacking`` says what it has not."""
    return Check(what, lacking, aim, None)


def table(works: Iterable[Work]) -> str:
    """All works as one Markdown table whose columns are aligned; figures that nobody gave have no column."""
    works = tuple(works)
    used = [name for name in COLUMNS if any(name in each.figures for work in works for each in work.rows)]
    head = ["work", "server", *(COLUMNS[name] for name in used), "judged by", "result", "aim", "met"]
    lines = [head]
    for work in works:
        waiting = list(work.checks)
        for each in work.rows:
            figures = [each.figures[name].text() if name in each.figures else "" for name in used]
            judged = _cells(waiting.pop(0)) if each.server == PIPCACHE and waiting else ["", "", "", ""]
            lines.append([work.name, each.server, *figures, *judged])
        blank = ["" for _ in used]
        lines += [[work.name, PIPCACHE, *blank, *_cells(check)] for check in waiting]
    return _aligned(lines)


def _cells(check: Check) -> list[str]:
    return [check.what, check.found, check.aim, _MARKS[check.is_met]]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    padded = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (lines[0], rule, *lines[1:])
    )
    return "\n".join(f"| {line} |" for line in padded)


def report(works: Sequence[Work], versions: Mapping[str, str], command: str, notes: Sequence[str]) -> str:
    """The whole of RESULTS.md: what was run, with what, the table, and what is to be known of it."""
    missed = sum(check.is_met is False for work in works for check in work.checks)
    absent = sum(check.is_met is None for work in works for check in work.checks)
    met = sum(check.is_met is True for work in works for check in work.checks)
    remarks = [*notes, *(f"{work.name}: {note}" for work in works for note in work.notes)]
    return "\n".join(
        [
            "# What the bench found",
            "",
            f"Aims met: {met}; missed: {missed}; not there yet: {absent}. Made by `{command}`.",
            "",
            table(works),
            "",
            "A figure is the median of the rounds, with the least and the greatest in brackets. Where nothing else is",
            "named, a result is pipcache's median divided by nginx's of the same run.",
            "",
            "## With",
            "",
            *(f"- {name}: {value}" for name, value in versions.items()),
            "",
            "## To be known",
            "",
            *(f"- {remark}" for remark in remarks),
            "",
        ]
    )
