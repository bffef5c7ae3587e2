"""The table and the checks: nothing that was missed, or cannot be done yet, is hidden."""

from __future__ import annotations

import pytest

from bench.results import Check, Work, limit_check, missing, ratio_check, report, row, table


def both(nginx: float, pipcache: float):
    """Rows of two servers with one figure."""
    return row("nginx", [{"rate": nginx}]), row("pipcache", [{"rate": pipcache}])


@pytest.mark.parametrize(
    ("pipcache", "aim", "at_most", "is_met"),
    [(130, 1.3, False, True), (129, 1.3, False, False), (90, 0.9, True, True), (91, 0.9, True, False)],
)
def test_a_ratio_is_of_medians_and_judged_from_its_side(pipcache, aim, at_most, is_met):
    """Throughput must not be under the aim, cost and time not over it."""
    assert ratio_check(both(100, pipcache), "rate", aim, at_most=at_most).is_met is is_met


def test_a_ratio_to_a_server_that_did_nothing_is_infinite():
    """A division by nothing is no error of the bench."""
    assert ratio_check(both(0, 1), "rate", 1.0).found == "inf"


def test_a_limit_stands_for_itself():
    """Figures such as memory are compared with no other server's."""
    assert limit_check("RSS", 60, 60, "MB") == Check("RSS", "60.0 MB", "<= 60.0 MB", True)
    assert limit_check("RSS", 61, 60, "MB").is_met is False


def test_the_table_shows_every_check_with_its_mark():
    """The first check stands beside pipcache's figures, each further one on a line of its own."""
    rows = both(100, 50)
    checks = (ratio_check(rows, "rate", 1.0), limit_check("RSS", 1, 2, "MB"))
    absent = Work("gzip", (row("pipcache", ()),), (missing("throughput", ">= 1.00", "no gzip"),))
    lines = table([Work("hot", rows, checks), absent]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["work", "server", "requests/s", "judged by", "result", "aim", "met"]
    assert cells[2:] == [
        ["hot", "nginx", "100", "", "", "", ""],
        ["hot", "pipcache", "50.0", "requests/s, pipcache / nginx", "0.50", ">= 1.00", "**NO**"],
        ["hot", "pipcache", "", "RSS", "1.00 MB", "<= 2.00 MB", "yes"],
        ["gzip", "pipcache", "", "throughput", "no gzip", ">= 1.00", "not there yet"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_a_check_without_rows_is_shown_all_the_same():
    """A work that pipcache did not do keeps its aim in the table."""
    assert "not there yet" in table([Work("tls", (), (missing("throughput", ">= 0.90", "no TLS"),))])


def test_the_report_counts_what_was_missed():
    """Its first sentence says how many aims were met, missed, and cannot be tried yet."""
    rows = both(1, 1)
    checks = (ratio_check(rows, "rate", 1.0), ratio_check(rows, "rate", 2.0), missing("x", "1", "nothing"))
    text = report([Work("hot", rows, checks, ("a note",))], {"nginx": "1.22"}, "python -m bench", ["in general"])
    assert "Aims met: 1; missed: 1; not there yet: 1. Made by `python -m bench`." in text
    assert {"- nginx: 1.22", "- in general", "- hot: a note"} <= set(text.splitlines())
