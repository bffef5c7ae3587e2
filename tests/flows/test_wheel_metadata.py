"""A mirror advertises core metadata that it does not have: it is made of the wheel, which is fetched once."""

from __future__ import annotations

import pytest

from tests.fakes.client import End
from tests.fakes.index import Index
from tests.flows.harness import bounded


@pytest.mark.parametrize("wrong", [None, b"Name: other\n" * 20_000], ids=["missing", "wrong"])
@bounded
async def test_clients_that_come_together_get_what_the_page_promises(flow, wrong):
    """All of them, whole, of one fetch; both are hits then, also after a restart with the upstream gone."""
    index, upstream = Index(), await flow.upstream()
    wheel = index.add_wheel("demo", "1.0", size_bytes=1_000_000)
    index.install_into(upstream)
    metadata = f"{wheel.path}.metadata"
    upstream.add(metadata, wrong or b"", status=404 if wrong is None else 200)
    proxy = await flow.proxy(upstream)
    assert b"data-core-metadata" in (await proxy.get("/simple/demo/")).body
    answers = [await proxy.ask(metadata) for _ in range(5)]
    for answer in answers:
        await answer.ended()
    assert [(each.status, each.end, bytes(each.body)) for each in answers] == [(200, End.LENGTH, wheel.metadata)] * 5
    assert (answers[0]["x-upstream"], answers[0]["x-cache-status"]) == ("one", "MISS")
    assert [upstream.count(target) for target in (metadata, wheel.path)] == [1, 1]
    await proxy.settled(metadata, wheel.path)
    assert proxy.kept == {"/simple/demo/", metadata, wheel.path}
    assert proxy.parts == []
    await upstream.stop()
    await proxy.restart()
    for target, body in ((metadata, wheel.metadata), (wheel.path, wheel.data)):
        hit = await proxy.get(target)
        assert (hit["x-cache-status"], bytes(hit.body)) == ("HIT", body)
