"""What an installer will ask for next is there before it asks, of the assembled program and over the wire."""

from __future__ import annotations

from tests.fakes.index import Index, IndexedFile
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import Flow, bounded, eventually


def page(project: str) -> str:
    """Where its page is."""
    return f"/simple/{project}/"


def metadata(wheel: IndexedFile) -> str:
    """Where its core metadata is."""
    return f"{wheel.path}.metadata"


async def tree(flow: Flow) -> tuple[FakeUpstream, dict[str, IndexedFile]]:
    """An upstream with ``a``, which needs ``b`` and in tests ``t``; ``b`` needs ``c``, whose wheel is large."""
    index, upstream = Index(), await flow.upstream()
    wheels = {
        "a": index.add_wheel("a", "1.0", ["b>=1", 't; extra == "test"']),
        "b": index.add_wheel("b", "2.0", ["c"]),
        "c": index.add_wheel("c", "3.0", size_bytes=2 << 20),
        "t": index.add_wheel("t", "4.0"),
    }
    for path, content_type, data in index.resources(dialect="json"):
        upstream.add(path, data, content_type=content_type)
    return upstream, wheels


@bounded
async def test_what_is_asked_for_next_is_there(flow):
    """With the upstream gone all that was fetched ahead is a hit, and it was fetched once."""
    upstream, wheels = await tree(flow)
    proxy = await flow.proxy(upstream)
    await proxy.get(page("a"))
    await proxy.get(metadata(wheels["a"]))
    ahead = {wheels["a"].path, page("b"), metadata(wheels["b"]), page("c"), metadata(wheels["c"])}
    await eventually(lambda: ahead <= proxy.kept)
    await upstream.stop()
    for target in ahead - {metadata(wheels["b"])}:  # who asks for that says that the wheel is wanted too
        assert (await proxy.get(target))["x-cache-status"] == "HIT"
    assert {target: upstream.count(target) for target in ahead} == dict.fromkeys(ahead, 1)
    assert bytes((await proxy.get(wheels["a"].path)).body) == wheels["a"].data
    nobody_wants = (wheels["b"].path, wheels["c"].path, page("t"), metadata(wheels["t"]))
    assert [upstream.count(target) for target in nobody_wants] == [0] * 4


@bounded
async def test_nothing_is_fetched_that_nobody_asked_for(flow):
    """With ``cache.prefetch_size`` 0."""
    upstream, wheels = await tree(flow)
    proxy = await flow.proxy(upstream, prefetch_size_bytes=0)
    targets = (page("a"), metadata(wheels["a"]), wheels["a"].path)
    for target in targets:
        await proxy.get(target)
    await proxy.settled(*targets)
    assert [request.target for request in upstream.requests] == list(targets)
