"""Metas: what is written is read back, and what ``to_json`` could not have written is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.fields import storable
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import (
    VARIANT_KINDS,
    EntryFile,
    StoredResponse,
    Variant,
    Verified,
    entry_name,
    folder_names,
    is_folder_name,
    is_part_name,
    is_quarantined_name,
    key_of,
    parse_name,
    part_name,
    promised_digest,
)

KEY = CacheKey("GET-/simple/a/")
STEM = KEY.stem
STORED = StoredResponse(
    key=KEY.text,
    status_code=200,
    headers=(("content-type", "text/html"), ("x-a", "1"), ("x-a", "2")),
    cached_at=1_700_000_000.25,
    expires_at=1_700_000_300.5,
    body=f"{STEM}.01234567.body",
    body_size=10,
    sha256="ab" * 32,
    etag='"0123"',
    upstream="one",
    url="https://one.example/simple/a/",
    upstream_root="https://one.example",
    upstream_etag='W/"x"',
    verified=Verified(1, 10, 1_700_000_000_123_456_789),
    last_serial=17,
    variants=(
        Variant(f"{STEM}.89abcdef.html", "1", Verified(2, 7, 1_700_000_000_123_456_790)),
        Variant(f"{STEM}.0badcafe.json.gz", "1", Verified(3, 5, 1_700_000_000_123_456_791)),
    ),
)
SEEN = {"inode": 2, "size": 7, "mtime_ns": 1}
MISSING = object()


def spoiled(**changes: Any) -> bytes:
    """The meta with other values in its JSON, or without those that are MISSING."""
    document = {**json.loads(STORED.to_json()), **changes}
    return json.dumps({name: value for name, value in document.items() if value is not MISSING}).encode()


def test_what_is_written_is_read_back() -> None:
    """Every value, those that may be absent too."""
    bare = evolve(STORED, upstream_root=None, upstream_etag=None, verified=None, last_serial=None, variants=())
    for stored in (STORED, bare):
        assert StoredResponse.from_json(stored.to_json(), KEY) == stored
        assert key_of(stored.to_json()) == KEY
    assert StoredResponse.from_json(spoiled(added_by_a_later_version=1), KEY) == STORED


@given(
    path=st.text(st.characters(exclude_categories=["Cs"])),
    fields=st.lists(st.tuples(st.sampled_from(["x-a", "x-b", "content-type"]), st.text("a ,;é\t\x80"))),
    size=st.integers(0, 1 << 70),
    cached_at=st.integers(0, 4_000_000_000),
)
def test_any_meta_is_read_back(path: str, fields: list[tuple[str, str]], size: int, cached_at: int) -> None:
    """Whatever the key's text, the fields that are stored, and the size."""
    key = CacheKey(f"GET-/{path}")
    stored = evolve(
        STORED,
        key=key.text,
        headers=storable(tuple(sorted(fields, key=lambda field: field[0]))),
        body=entry_name(key, "body"),
        body_size=size,
        cached_at=float(cached_at),
        variants=(),
    )
    assert StoredResponse.from_json(stored.to_json(), key) == stored
    assert key_of(stored.to_json()) == key


def test_times_are_rfc_3339_and_sizes_whole_numbers() -> None:
    """As the layout promises to those who read the directory."""
    document = json.loads(STORED.to_json())
    assert document["cached_at"] == "2023-11-14T22:13:20.250000Z"
    assert document["expires_at"] == "2023-11-14T22:18:20.500000Z"
    assert document["body_size"] == 10
    assert document["headers"] == {"content-type": "text/html", "x-a": ["1", "2"]}


REQUIRED = [
    *("key", "status_code", "headers", "cached_at", "expires_at", "body"),
    *("body_size", "sha256", "etag", "upstream", "url"),
]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [MISSING, None, [], 1.5, True])
def test_values_of_another_kind_are_refused(name: str, value: object) -> None:
    """None of what a response needs may be missing or of another type."""
    with pytest.raises(ValueError, match=r"."):
        StoredResponse.from_json(spoiled(**{name: value}), KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "GET-/simple/b/"},
        {"key": "GET-/simple/a"},
        {"status_code": 404},
        {"status_code": 206},
        {"status_code": "200"},
        {"body_size": -1},
        {"body_size": "10"},
        {"sha256": "AB" * 32},
        {"sha256": "ab" * 31},
        {"etag": "0123"},
        {"etag": 'W/"0123"'},
        {"etag": '"0"1"'},
        {"etag": '""'},
        {"etag": '"a\r\nx: y"'},
        {"etag": f'"{"a" * 129}"'},
        {"cached_at": "yesterday"},
        {"cached_at": 1_700_000_000},
        {"expires_at": "2023-11-14T22:18:20+01:00"},
        {"upstream": "one\r\nset-cookie: a"},
        {"upstream": "one\n"},
        {"upstream_etag": '"a\nb"'},
        {"upstream_etag": 1},
        {"upstream_root": 1},
        {"headers": {"x-a": "1\r\nx-b: 2"}},
        {"headers": {"x-a": ["1", "2\n"]}},
        {"headers": {"x-a": "\0"}},
        {"headers": {"x-a": "€"}},
        {"headers": {"x a": "1"}},
        {"headers": {"": "1"}},
        {"headers": {"x-a": 1}},
        {"headers": {"x-a": {"1": 1}}},
        {"headers": {"content-length": "3"}},
        {"headers": {"Content-Length": "3"}},
        {"headers": {"transfer-encoding": "chunked"}},
        {"headers": {"content-encoding": "gzip"}},
        {"headers": {"connection": "x-a"}},
        {"headers": {"set-cookie": "a=b"}},
        {"headers": {"etag": '"theirs"'}},
        {"headers": {"cache-control": "no-store"}},
        {"headers": {"x-cache-status": "HIT"}},
        {"headers": "text"},
        {"verified": 1},
        {"verified": {}},
        {"verified": {"inode": "1", "size": 1, "mtime_ns": 1}},
        {"variants": 1},
        {"verified": None},
        {"verified": {"inode": 1, "size": 1, "mtime_ns": 1.5}},
        {"variants": None},
        {"variants": {"html": {}}},
        {"variants": [{"file": f"{STEM}.89abcdef.html", "verified": SEEN}]},
        {"variants": [{"file": f"{STEM}.89abcdef.html", "shape": "1"}]},
        {"variants": [{"file": f"{STEM}.89abcdef.html", "shape": "1", "size": 7}]},
        {"variants": [{"file": f"{STEM}.89abcdef.html", "shape": 1, "verified": SEEN}]},
        {"variants": [{"file": f"{STEM}.89abcdef.html", "shape": "1", "verified": {**SEEN, "size": "7"}}]},
        {"variants": [{"file": f"{STEM}.{n}9abcdef.html", "shape": "1", "verified": SEEN} for n in "12"]},
        {"last_serial": "17"},
        {"last_serial": None},
    ],
)
def test_what_must_not_reach_a_client_is_refused(changes: dict[str, Any]) -> None:
    """Another key, another status, and whatever could break a response apart or say a thing that we do not say."""
    with pytest.raises(ValueError, match=r"."):
        StoredResponse.from_json(spoiled(**changes), KEY)


@pytest.mark.parametrize(
    "name",
    [
        *("", "/etc/passwd", "../VERSION", "VERSION", "a.body"),
        *(f"../{KEY.folder}/{STEM}.body", f"./{STEM}.body", f"{STEM}.body\n", f"{STEM}.body\0"),
        *(f"{'0' * 61}.body", f"{STEM}.meta", f"{STEM.upper()}.body", f"{STEM}.0123456.body", f"{STEM}.part"),
        *(f"{STEM}.12345678.meta", f"{STEM}.12345678"),
    ],
)
def test_files_of_others_are_refused(name: str) -> None:
    """A body or variant is a name of our form, of the right kind, in the key's own folder."""
    with pytest.raises(ValueError, match="file of another entry"):
        StoredResponse.from_json(spoiled(body=name), KEY)
    with pytest.raises(ValueError, match="file of another entry"):
        StoredResponse.from_json(spoiled(variants=[{"file": name, "shape": "1", "verified": SEEN}]), KEY)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"1", b'"key"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"key": "\\ud800"}', b"1" * 5000],
)
def test_what_is_no_meta_is_refused(content: bytes) -> None:
    """Whatever stands in the file, the error is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        StoredResponse.from_json(content, KEY)


@given(content=st.binary(max_size=40), length=st.integers(0, len(STORED.to_json()) - 3))
def test_damaged_metas_are_refused_in_one_way(content: bytes, length: int) -> None:
    """Any bytes, and a meta that was cut anywhere, are a ValueError and no other exception."""
    for damaged in (content, STORED.to_json()[:length]):
        with pytest.raises(ValueError, match=r"."):
            StoredResponse.from_json(damaged, KEY)
        with pytest.raises(ValueError, match=r"."):
            key_of(damaged)


def test_a_key_that_no_file_could_have_is_refused() -> None:
    """Lone surrogates have no UTF-8, so no name on disk; asking for the name is a ValueError."""
    with pytest.raises(ValueError, match="surrogates"):
        _ = key_of(b'{"key": "\\ud800"}').stem


def test_a_freshened_response_is_the_same_response() -> None:
    """Only its times change."""
    fresh = STORED.freshened(2.0, 3.0)
    assert (fresh.cached_at, fresh.expires_at) == (2.0, 3.0)
    assert evolve(fresh, cached_at=STORED.cached_at, expires_at=STORED.expires_at) == STORED


def test_an_entry_is_its_body_and_its_variants() -> None:
    """Their sizes are what eviction frees, their names what it removes."""
    assert STORED.size_on_disk == 22
    assert STORED.files == (STORED.body, f"{STEM}.89abcdef.html", f"{STEM}.0badcafe.json.gz")
    bare = evolve(STORED, variants=())
    assert (bare.size_on_disk, bare.files) == (10, (STORED.body,))


def test_a_variant_is_found_by_kind_and_shape() -> None:
    """A rendering of another shape is none."""
    assert STORED.variant("json.gz", "1") == STORED.variants[1]
    assert STORED.variant("json.gz", "2") is None
    assert STORED.variant("json", "1") is None


@pytest.mark.parametrize(
    ("made", "kinds"),
    [
        ([("html.gz", "1")], ["html", "json.gz", "html.gz"]),
        ([("html", "1")], ["json.gz", "html"]),
        ([("json", "2")], ["json"]),
        ([], ["html", "json.gz"]),
    ],
)
def test_new_variants_replace_those_of_their_kind_and_of_other_shapes(
    made: list[tuple[str, str]], kinds: list[str]
) -> None:
    """One of each kind is left, and none that nobody would read any more."""
    new = tuple(
        Variant(f"{STEM}.{number:08x}.{kind}", shape, Verified(9, 1, 1)) for number, (kind, shape) in enumerate(made)
    )
    changed = STORED.with_variants(new)
    assert [variant.kind for variant in changed.variants] == kinds
    assert changed.variants[len(kinds) - len(new) :] == new
    assert STORED.is_same_body(changed)
    assert not STORED.is_same_body(evolve(STORED, etag='"other"'))


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["body", "meta", *VARIANT_KINDS])
@pytest.mark.parametrize("generation", [None, "0123abcd"])
def test_names_are_read_back(kind: str, generation: str | None) -> None:
    """What is written is taken apart again; a meta has no generation, as it is the one name of its entry."""
    name = entry_name(KEY, kind, generation)
    expected = None if kind == "meta" and generation else EntryFile(STEM, generation, kind)
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name", ["", "VERSION", STEM, f"{STEM}.body.bak", f"{STEM}.BODY", f"{STEM}.12345678.part", f"x{STEM}.body"]
)
def test_other_names_are_not_ours(name: str) -> None:
    """What is not exactly of our form is nobody's business."""
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        (f"{'0a' * 16}.part", True),
        (f"{'0a' * 16}.{'0f' * 32}.part", True),
        (f"{'0a' * 16}.{'0F' * 32}.part", False),
        (f"{'0a' * 16}.{'0f' * 31}.part", False),
        (f"{'0a' * 16}.{'0f' * 32}.part\n", False),
        (f"{'0a' * 16}.{'0f' * 32}", False),
        (f"{'0a' * 16}..part", False),
        (f"{'0f' * 32}.part", False),
        (f"{'0A' * 16}.part", False),
        (f"{'0a' * 16}.part\n", False),
        (f"{'0a' * 15}.part", False),
        (f"{'0a' * 16}.body", False),
        ("a.part", False),
    ],
)
def test_names_of_parts(name: str, is_ours: bool) -> None:
    """32 hex digits, the digest where it is known, and ``.part``."""
    assert is_part_name(name) == is_ours
    assert is_ours or promised_digest(name) is None


@pytest.mark.parametrize("sha256", [None, "0f" * 32])
def test_a_part_says_what_it_must_come_to(sha256: str | None) -> None:
    """The digest in its name is read back; a part without one promises nothing."""
    name = part_name("0a" * 16, sha256)
    assert is_part_name(name)
    assert promised_digest(name) == sha256


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        (f"{'0a' * 16}.body", True),
        (f"{'0a' * 16}.json", True),
        (f"{'0A' * 16}.json", False),
        (f"{'0a' * 15}.json", False),
        (f"{'0a' * 16}.json\n", False),
        (f"{'0a' * 16}.part", False),
        (f"{STEM}.body", False),
        ("notes.json", False),
    ],
)
def test_names_in_quarantine(name: str, is_ours: bool) -> None:
    """32 hex digits, and which of the pair it is."""
    assert is_quarantined_name(name) == is_ours


def test_names_of_folders() -> None:
    """The 4096, and no others."""
    assert len(set(folder_names())) == 4096
    assert all(map(is_folder_name, folder_names()))
    assert KEY.folder in folder_names()
    assert not any(map(is_folder_name, ("", "ab", "abcd", "ABC", "tmp", "abc\n", "../")))
