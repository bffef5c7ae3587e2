"""The facts that a link carries about its file and its core metadata."""

from __future__ import annotations

import pytest

from pipcache.simple.model import Attributes, DistributionFile

URL = "https://files.example.org/packages/a-1.whl"
ONE, TWO = "1" * 64, "2" * 64


def test_hashes_come_from_the_fragment() -> None:
    """A file promises what its link's fragment says, and nothing where there is none."""
    assert DistributionFile("a-1.whl", URL, f"sha256={ONE}").hashes == {"sha256": ONE}
    assert DistributionFile("a-1.whl", URL).hashes == {}


@pytest.mark.parametrize(
    ("attributes", "hashes"),
    [
        ((), None),
        ((("data-core-metadata", "true"),), {}),
        ((("data-core-metadata", ""),), {}),
        ((("data-core-metadata", "odd"),), {}),
        ((("data-core-metadata", "false"),), None),
        ((("data-core-metadata", None),), None),
        ((("data-core-metadata", f"sha256={ONE}"),), {"sha256": ONE}),
        ((("data-dist-info-metadata", f"sha256={ONE}"),), {"sha256": ONE}),
        (
            (("data-dist-info-metadata", f"sha256={ONE}"), ("data-core-metadata", f"sha256={TWO}")),
            {"sha256": TWO},
        ),
        ((("data-core-metadata", None), ("data-dist-info-metadata", "true")), {}),
    ],
)
def test_core_metadata_is_offered_or_not(attributes: Attributes, hashes: dict[str, str] | None) -> None:
    """True is an offer without a digest, absent and false are none, and the name of PEP 714 rules."""
    assert DistributionFile("a-1.whl", URL, attributes=attributes).metadata_hashes == hashes
