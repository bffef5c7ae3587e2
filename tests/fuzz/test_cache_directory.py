"""Whatever lies in the cache directory: it is what was published, or it is absent; what is not ours stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files
from pipcache.edges.publication import NewVariant
from pipcache.rules.errors import ConfigError, StorageError
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse, is_folder_name, is_part_name, is_quarantined_name, parse_name
from tests.edges.storing import LONG_AFTER, PAGE_KEY, content_of, new_store, publish, response, result_of
from tests.fakes.cache import Cached, page, promised

META = response(PAGE_KEY, b"data", body=f"{PAGE_KEY.stem}.body", url="https://one.test/simple/a/").to_json()
DOCUMENT: dict[str, Any] = json.loads(META)

TARGET, BODY = "/packages/aa/bb/demo-1.0.whl", b"the bytes of a file" * 20
ODD_TEXTS = ["", "\x00", "a\r\nb: c", "../../etc/passwd", "/etc/passwd", "a" * 64, '"x"', '"\x7f"', "\ud800"]
ODD_TIMES = ["9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", "0001-01-01T00:00:00Z", "2025-01-31T12:00:00.1Z"]
ODD_FIELDS = [{"x": "a\r\nb: c"}, {"x\r\ny": "a"}, {"set-cookie": "a=b"}, {"connection": "close"}, {"x": ["a", "\x00"]}]
ODD = st.sampled_from(
    [None, True, -1, 0, 1 << 70, 1e400, [], {}, [["a", "b"]], {"a": []}, *ODD_TEXTS, *ODD_TIMES, *ODD_FIELDS]
)
ODD_VALUES = ODD | st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def metas(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A change of a meta: of one value or more, or of its bytes."""
    if draw(st.booleans()):
        names = draw(
            st.lists(
                st.sampled_from([*DOCUMENT, "verified", "variants", "last_serial", "more"]), min_size=1, max_size=3
            )
        )
        values = [draw(ODD_VALUES) for _ in names]
        gone = draw(st.booleans())

        def changed(content: bytes) -> bytes:
            document = json.loads(content)
            for name, value in zip(names, values, strict=True):
                document[name] = value
                if gone:
                    del document[name]
            return json.dumps(document).encode()

        return changed
    start, count, data = draw(st.integers(0, 1500)), draw(st.integers(0, 20)), draw(st.binary(max_size=20))
    return lambda content: content[:start] + data + content[start + count :]


@given(metas())
@settings(max_examples=800)
@example(lambda _: b"[" * 100_000)
@example(lambda _: b'{"body_size": ' + b"9" * 5000 + b"}")
def test_a_meta_that_is_read_could_have_been_published(change: Callable[[bytes], bytes]) -> None:
    """It is a ValueError, or a response that is written as it was read and splits no head."""
    try:
        stored = StoredResponse.from_json(change(META), PAGE_KEY)
    except ValueError:
        return
    assert StoredResponse.from_json(stored.to_json(), PAGE_KEY) == stored
    assert (stored.key, stored.status_code) == (PAGE_KEY.text, 200)
    for name in stored.files:
        entry_file = parse_name(name)
        assert entry_file is not None
        assert entry_file.stem == PAGE_KEY.stem
    assert not {name for name, _ in stored.headers} & {"set-cookie", "connection"}
    told = [text for pair in stored.headers for text in pair] + [
        stored.etag,
        stored.upstream,
        stored.upstream_etag or "",
    ]
    assert not any(set(text) & set("\r\n\0") for text in told)


def ask(cached: Cached, target: str = TARGET) -> bytes:
    """What a client gets, whole; the upstream gives what it has whenever it is asked."""
    visit = cached.get(target)
    for _ in range(9):
        cached.clock.advance(0)
        if not cached.client.waiting:
            break
        content = BODY if cached.client.waiting[0].endswith(".whl") else PAGE
        cached.client.answer_whole(content, (("content-type", "text/html"),) if content is PAGE else ())
    assert visit.error is None, visit.error
    assert visit.is_whole
    return visit.body


PAGE = page(promised(TARGET, BODY))


@given(metas(), st.sampled_from([TARGET, "/simple/demo/"]))
@settings(max_examples=150)
def test_a_client_gets_the_right_bytes_whatever_the_meta_says(change: Callable[[bytes], bytes], target: str) -> None:
    """From the cache or fetched anew; and afterwards again."""
    with TemporaryDirectory() as folder:
        cached = Cached(Path(folder))
        rendered = ask(cached, "/simple/demo/")
        assert ask(cached) == BODY
        for meta in cached.entries():
            if json.loads(meta.read_bytes())["key"] == f"GET-{target}":
                meta.write_bytes(change(meta.read_bytes()))
        again = Cached(Path(folder))
        for _ in range(2):
            assert (ask(again), ask(again, "/simple/demo/")) == (BODY, rendered)
        again.check_books()


# -- what lies about -------------------------------------------------------------------------------------------------

KEYS = tuple(CacheKey(f"GET-/packages/aa/bb/a-{number}.whl") for number in range(3))
FOLDERS = st.sampled_from(
    [*(key.folder for key in KEYS), "tmp", "quarantine", "abc", ".", "ABC", "other", "tmp/deeper"]
)
TOKENS = st.sampled_from(["0" * 8, "1" * 32, "a" * 64, *(key.stem for key in KEYS), "f" * 61, "x", "\u00e9", " ", "\n"])
NAMES_OF_FILES = st.builds(
    lambda tokens, ending: ".".join([*tokens, ending]),
    st.lists(TOKENS, max_size=2),
    st.sampled_from(["body", "meta", "html", "part", "json", "bak", "", "BODY", "meta~"]),
).filter(lambda name: name not in ("", ".", ".."))
KINDS = st.sampled_from(["file", "empty", "meta", "link", "dangling", "loop", "pipe", "folder", "unreadable", "out"])


def is_ours(path: Path, root: Path) -> bool:
    """Whether its name is one that may be removed, a link of that name itself included."""
    folder, name = str(path.parent.relative_to(root)), path.name
    rules = {"tmp": is_part_name(name), "quarantine": is_quarantined_name(name), ".": name == "VERSION"}
    return rules.get(folder, is_folder_name(folder) and parse_name(name) is not None)


def put(root: Path, outside: Path, folder: str, name: str, kind: str) -> None:
    """Put something there, where nothing is yet."""
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        return
    makers: dict[str, Callable[[], object]] = {
        "file": lambda: path.write_bytes(b"theirs"),
        "empty": path.touch,
        "meta": lambda: path.write_bytes(META),
        "link": lambda: path.symlink_to(outside / "file"),
        "dangling": lambda: path.symlink_to(outside / "nothing"),
        "loop": lambda: path.symlink_to(path),
        "pipe": lambda: os.mkfifo(path),
        "folder": lambda: (path / "deeper").mkdir(parents=True),
        "unreadable": lambda: (path.write_bytes(b"{}"), path.chmod(0)),
        "out": lambda: path.symlink_to(outside),
    }
    makers[kind]()
    with suppress(OSError):
        os.utime(path, (1000, 1000), follow_symlinks=False)


class Unsynced(Files):
    """No power is lost here, and nobody waits for the platter."""

    def sync(self, descriptor: int) -> None:
        """Nothing."""


def serve(store: DiskStore) -> None:
    """All that a program does with a directory: what it publishes is there, or is said not to be."""
    with suppress(StorageError, ConfigError):
        store.prepare()
    result_of(store.clear_parts(LONG_AFTER, 0.0))
    result_of(store.scan(tuple({key.folder for key in KEYS} | {"abc", "0a1"}), LONG_AFTER))
    for number, key in enumerate(KEYS):
        data = b"data" * (number + 1)
        try:
            stored = grown_and_published(store, key, data)
        except StorageError:
            assert content_of(store, key) is None
            continue
        assert content_of(store, key) == (data, b"<page>")
        (store.root / key.folder / stored.body).write_bytes(b"x" * len(data))
        assert result_of(store.verify(key, stored)) is None
        assert content_of(store, key) is None
        publish(store, key, data)
        assert result_of(store.remove((key.digest,), LONG_AFTER)) == (key.digest,)


def grown_and_published(store: DiskStore, key: CacheKey, data: bytes) -> StoredResponse:
    """Publish, or say why not."""
    body = store.grow()
    body.append(data)
    try:
        if body.failure is not None:
            raise body.failure
        return result_of(store.publish(key, body, response(key, data), [NewVariant("html", "shape", b"<page>")]))
    finally:
        body.discard()
        body.close()


@given(
    st.lists(st.tuples(FOLDERS, NAMES_OF_FILES, KINDS), max_size=12),
    st.lists(st.sampled_from([*(k.folder for k in KEYS), "tmp", "quarantine", "VERSION"]), max_size=2),
)
@settings(max_examples=250)
def test_a_directory_full_of_anything_is_served_and_left(soup: list[tuple[str, str, str]], linked: list[str]) -> None:
    """Nothing crashes or waits; only regular files under names of ours go; nothing outside is read, made or removed."""
    with TemporaryDirectory() as folder:
        root, outside = Path(folder) / "cache", Path(folder) / "outside"
        root.mkdir()
        outside.mkdir()
        for name in ("file", f"{'1' * 32}.part", f"{KEYS[0].stem}.body", f"{'1' * 32}.json"):
            (outside / name).write_bytes(b"theirs")
            os.utime(outside / name, (1000, 1000))
        for name in linked:
            if not os.path.lexists(root / name):
                (root / name).symlink_to(outside)
        for where, name, kind in soup:
            if where.split("/")[0] not in linked:
                put(root, outside, where, name, kind)
        theirs = {
            path: os.readlink(path) if path.is_symlink() else path.lstat().st_size
            for path in root.rglob("*")
            if not is_ours(path, root) and (path.is_symlink() or not path.is_dir())
        }
        before = {path: path.lstat() for path in outside.rglob("*")}
        serve(new_store(root, Unsynced()))
        assert {path: path.lstat() for path in outside.rglob("*")} == before
        for path, was in theirs.items():
            assert os.path.lexists(path), path
            assert (os.readlink(path) if path.is_symlink() else path.lstat().st_size) == was
