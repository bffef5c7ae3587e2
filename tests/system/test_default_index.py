"""With the index that this machine's own pip uses: the one test that leaves the machine, where that is possible."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipcache.edges.pip_index import discover_pip_index
from tests.system.harness import Server, pip_install, run_pip, scrubbed_environment

pytestmark = pytest.mark.system

SEVERAL_TRIES_SECONDS = 120


@pytest.fixture(scope="module")
def machines_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What steers pip here: its variables, and those of proxies. The test is skipped where pip reaches no index."""
    found = discover_pip_index(frozenset(), os.environ)
    if found is None:
        pytest.skip("there is no pip here that says which index it uses")
    ours = {name: value for name, value in os.environ.items() if re.search(r"^PIP_|_proxy$", name, re.IGNORECASE)}
    # only the index, and its project page only: a folder of wheels may be configured beside it
    probe = {"PIP_INDEX_URL": found.index_url, "PIP_CERT": found.cert or "", "PIP_PROXY": found.proxy or ""}
    proxies = {name: value for name, value in ours.items() if name.lower().endswith("_proxy")}
    target = tmp_path_factory.mktemp("probe")
    options = ["--no-deps", "--no-cache-dir", "--timeout", "5", "--retries", "0", "--dest", target]
    try:
        environment = {**proxies, **{name: value for name, value in probe.items() if value}}
        done = run_pip(Path(sys.executable), "download", *options, "six", environment=environment, timeout=30)
    except subprocess.TimeoutExpired:
        pytest.skip("the index that pip uses here did not answer in time")
    if done.returncode != 0:
        pytest.skip("the index that pip uses here cannot be reached")
    return ours


def check_installs(server: Server, python: Path, folder: Path, upstreams: set[str]) -> None:
    """Install with pip twice, the second time from the cache; somebody of these upstreams had it."""
    wheel = ""
    for number in range(2):
        target = folder / f"target-{number}"
        done = pip_install(python, server.index_url, target, "--timeout", str(SEVERAL_TRIES_SECONDS), "six")
        assert done.returncode == 0, done.stdout + done.stderr + server.log
        code = "import six; print(six.__version__)"
        environment = scrubbed_environment(PYTHONPATH=str(target))
        wheel = "six-" + subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip()
    fetched = [line for line in server.log.splitlines() if f"/{wheel}-" in line and "fetched" in line]
    assert len([line for line in fetched if ".whl from " in line]) == 1
    page = server.get("/simple/six/")
    assert (page[0], page[1]["x-cache-status"]) == (200, "HIT")
    assert page[1]["x-upstream"] in upstreams
    assert "Traceback" not in server.log


def test_the_index_that_pip_uses(machines_environment, start_server: Callable[..., Server], bare_python, tmp_path):
    """`url: "pip:"` is that index, with pip's certificates and proxy: real pip installs a package through it."""
    settings = {"upstream": {"primary": {"name": "pip", "url": "pip:"}}}
    server = start_server(settings, environment=machines_environment)
    check_installs(server, bare_python, tmp_path, {"pip"})


def test_the_defaults(machines_environment, start_server: Callable[..., Server], bare_python, tmp_path):
    """With no upstream set there are three; where the two mirrors cannot be reached the third answers."""
    server = start_server({}, environment=machines_environment)
    assert [each["name"] for each in server.health()["upstreams"]] == ["tuna", "aliyun", "pip"]
    check_installs(server, bare_python, tmp_path, {"tuna", "aliyun", "pip"})
