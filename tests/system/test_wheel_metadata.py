"""Real pip and real uv through a mirror that advertises core metadata which it lacks, or has wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.index import Index
from tests.system.harness import IndexServer, pip_install, uv_install

pytestmark = pytest.mark.system


@pytest.mark.parametrize("wrong", [None, b"Name: other\n" * 20_000], ids=["missing", "wrong"])
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_installers_get_the_metadata_that_the_page_promises(
    serve_index, start_server, bare_python, tmp_path, installer, wrong
):
    """Without the program pip ends with an error; through it both install, and each wheel is fetched once."""
    index = Index()
    wheels = [index.add_wheel("leaf", "1.0", size_bytes=500_000), index.add_wheel("tree", "2.0", requires=["leaf>=1"])]
    upstream: IndexServer = serve_index(index)
    for wheel in wheels:
        beside = upstream.served / f"{wheel.path}.metadata".lstrip("/")
        if wrong is None:
            beside.unlink()
        else:
            beside.write_bytes(wrong)
    server = start_server({"upstream": {"primary": {"name": "only", "url": upstream.url}}})

    def install(index_url: str, target: Path):
        if installer == "uv":
            return uv_install(index_url, target, "tree")
        return pip_install(bare_python, index_url, target, "tree")

    if installer == "pip":
        direct = install(f"{upstream.url}/simple/", tmp_path / "direct")
        assert direct.returncode != 0, "pip does without: the test shows nothing"
    asked = len(upstream.requests)
    done = install(server.index_url, tmp_path / "target")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "target").glob("*.dist-info")) == [
        "leaf-1.0.dist-info",
        "tree-2.0.dist-info",
    ]
    assert [upstream.requests[asked:].count(f"GET {wheel.path}") for wheel in wheels] == [1, 1]
    assert "Traceback" not in server.log
