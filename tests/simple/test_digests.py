"""Digests: read from fragments, ranked, computed."""

from __future__ import annotations

import hashlib

import pytest

from pipcache.simple.digests import (
    HEX_LENGTHS,
    PATH_DIGEST,
    PREFERENCE,
    Digest,
    digest_in_path,
    hashes_in,
    new_hasher,
    preferred,
)

SHA256 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("fragment", "hashes"),
    [
        (f"sha256={SHA256}", {"sha256": SHA256}),
        (f"SHA256={SHA256.upper()}", {"sha256": SHA256}),
        (f"egg=a&sha256={SHA256}&md5={'0' * 32}", {"sha256": SHA256, "md5": "0" * 32}),
        (f"sha256={SHA256}&sha256={'0' * 64}", {"sha256": SHA256}),
        (f"sha256=short&sha256={SHA256}", {"sha256": SHA256}),
        (f"sha256={SHA256[:-1]}", {}),
        (f"sha256={SHA256[:-1]}g", {}),
        (f"sha256={SHA256[:-1]}\n", {}),
        ("sha256=" + "\u0661" * 64, {}),
        (f"unknown={SHA256}", {}),
        ("sha256", {}),
        ("", {}),
        ("true", {}),
        (f"blake2b={'a' * 128}&sha384={'b' * 96}", {"blake2b": "a" * 128, "sha384": "b" * 96}),
    ],
)
def test_only_known_and_well_formed_digests_are_read(fragment: str, hashes: dict[str, str]) -> None:
    """Names and digits are lower-case, of the right length; anything else in a fragment is passed over."""
    assert hashes_in(fragment) == hashes


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["md5", "sha384", "sha512", "sha256"], "sha256"),
        (["sha384", "sha512"], "sha512"),
        (["sha384", "md5"], "sha384"),
        (["md5", "sha1"], None),
        ([], None),
    ],
)
def test_the_best_digest_is_one_that_resists_a_forger(names: list[str], best: str | None) -> None:
    """SHA-256 before SHA-512 before SHA-384; MD5 and SHA-1 hold nobody to anything."""
    digest = preferred(dict.fromkeys(names, "a"))
    assert digest == (None if best is None else Digest(best, "a"))


@pytest.mark.parametrize("name", PREFERENCE)
def test_a_hasher_computes_what_a_digest_of_its_name_says(name: str) -> None:
    """A body in pieces has the digest of the whole, as many digits long as its name promises."""
    hasher = new_hasher(name)
    hasher.update(b"one, ")
    hasher.update(b"two")
    assert hasher.hexdigest() == hashlib.new(name, b"one, two").hexdigest()
    assert len(hasher.hexdigest()) == HEX_LENGTHS[name]


def test_there_is_no_hasher_for_a_weak_name() -> None:
    """Who asks to check a file with MD5 made a mistake, and is told what there is."""
    with pytest.raises(ValueError, match=r"md5.*sha256, sha512, sha384"):
        new_hasher("md5")


REST = "0123456789ab" * 5


@pytest.mark.parametrize(
    "path",
    [
        f"/packages/ab/cd/{REST}/demo-1.0.tar.gz",
        f"/packages/ab/cd/{REST}/demo-1.0-py3-none-any.whl.metadata",
        f"/packages/ab/cd/{REST}/x",
    ],
)
def test_a_path_of_pypi_names_a_digest(path: str) -> None:
    """Two, two and sixty digits are one BLAKE2b-256, whatever the file is called."""
    assert digest_in_path(path) == Digest(PATH_DIGEST, f"abcd{REST}")


@pytest.mark.parametrize(
    "path",
    [
        f"/packages/ab/cd/{REST[1:]}/x",
        f"/packages/ab/cd/{REST}0/x",
        f"/packages/ab/cd/{REST.upper()}/x",
        f"/packages/ab/cd/{REST[:-1]}g/x",
        f"/packages/abc/d/{REST}/x",
        f"/packages/AB/cd/{REST}/x",
        f"/packages/ab/cd/{REST}/",
        f"/packages/ab/cd/{REST}",
        f"/packages/ab/cd/{REST}/x/y",
        f"/packages/ab/cd/{REST}/x\n/y",
        f"/other/packages/ab/cd/{REST}/x",
        f"/packages/ab/cd/{REST}/../x",
        "/packages/source/d/demo/demo-1.0.tar.gz",
        "/simple/demo/",
        "",
    ],
)
def test_other_paths_name_none(path: str) -> None:
    """Digits of another number or case, another depth, another place: nothing is known of the file."""
    assert digest_in_path(path) is None


def test_the_digest_of_a_path_is_computed_as_pypi_does() -> None:
    """BLAKE2b with 32 bytes, of the body in pieces; no link can promise it."""
    body = b"one, two"
    digest = hashlib.blake2b(body, digest_size=32).hexdigest()
    hasher = new_hasher(PATH_DIGEST)
    hasher.update(b"one, ")
    hasher.update(b"two")
    assert hasher.hexdigest() == digest
    assert digest_in_path(f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/demo-1.0.zip") == Digest(
        PATH_DIGEST, digest
    )
    assert PATH_DIGEST not in PREFERENCE
    assert hashes_in(f"{PATH_DIGEST}={digest}") == {}
