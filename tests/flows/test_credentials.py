"""Credentials through the whole program: they reach their upstream, and leave no trace anywhere else."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from twisted.logger import formatEventAsClassicLogText, globalLogPublisher

from pipcache.rules.settings import Auth, Upstream
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import Flow, bounded, hashed, page

SECRET = "canary-hush"
PAIR = b64encode(f"me:{SECRET}".encode()).decode()
BODY = b"wheel" * 1000
FILE = "/packages/aa/demo-1.0-py3-none-any.whl"
WAYS = ["password", "password_file", "token", "in the address"]


def private(upstream: FakeUpstream, way: str, folder: Path) -> tuple[Upstream, str]:
    """The upstream with credentials given in one of the ways, and the field that it must get."""
    if way == "in the address":
        return Upstream("private", upstream.url.replace("//", f"//me:{SECRET}@")), f"Basic {PAIR}"
    (folder / "secret").write_text(SECRET)
    auth, field = {
        "password": (Auth("me", SECRET), f"Basic {PAIR}"),
        "password_file": (Auth("me", password_file=str(folder / "secret")), f"Basic {PAIR}"),
        "token": (Auth(token=SECRET), f"Bearer {SECRET}"),
    }[way]
    return Upstream("private", upstream.url, auth=auth), field


def is_clean(data: bytes) -> bool:
    """Whether neither the secret nor what is sent of it is in these bytes."""
    return SECRET.encode() not in data and PAIR.encode() not in data


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_failing", [False, True])
@bounded
async def test_no_trace_of_them(flow: Flow, tmp_path: Path, way: str, is_failing: bool) -> None:
    """Neither log nor `/health`, no response's head or body, no error page, no file of the cache has them.

    The upstream is asked for things that come, are absent, break off, are refused, are nonsense, lead away.
    """
    seen: list[str] = []

    def observe(event: dict[str, object]) -> None:
        seen.append(formatEventAsClassicLogText(event) or "")
        seen.append(repr({key: value for key, value in event.items() if key not in ("log_logger", "log_source")}))

    globalLogPublisher.addObserver(observe)
    try:
        upstream, other = await flow.upstream(), await flow.upstream()
        upstream.add("/simple/demo/", page(hashed(FILE, BODY)))
        upstream.add(FILE, BODY)
        upstream.add("/simple/refused/", status=401)
        upstream.add("/simple/nonsense/", raw=b"nonsense")
        upstream.add("/simple/moved/", redirect_to=f"{other.url}/simple/moved/")
        upstream.add("/other/moved", redirect_to=f"{other.url}/other/moved")
        other.add("/other/moved", b"moved")
        site, field = private(upstream, way, tmp_path)
        proxy = await flow.proxy(site)
        if is_failing:
            await upstream.pause()
        answers = [
            await proxy.get(target)
            for target in (
                *("/simple/demo/", FILE, "/simple/refused/", "/simple/nonsense/", "/simple/moved/", "/other/moved"),
                *("/simple/absent/", "/health"),
            )
        ]
        await proxy.settled(FILE)
        if not is_failing:
            assert bytes(answers[1].body) == BODY
            assert {request.headers.get("authorization") for request in upstream.requests} == {field}
            assert FILE in proxy.kept
        assert all("authorization" not in request.headers for request in other.requests)
        for answer in answers:
            assert is_clean(repr(answer.fields).encode() + bytes(answer.body)), answer
        for path in proxy.cache_dir.rglob("*"):
            assert is_clean(str(path).encode())
            assert path.is_dir() or is_clean(path.read_bytes()), path
    finally:
        globalLogPublisher.removeObserver(observe)
    assert any("did not give" in line for line in seen)
    for line in seen:
        assert is_clean(line.encode()), line
