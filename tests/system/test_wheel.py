"""Installed from a wheel, or in place as a developer does: twistd shows pipcache, and it serves."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tests.system.harness import TOP, Server, run_pip, scrubbed_environment, twistd_of

pytestmark = pytest.mark.system


def checked(done: subprocess.CompletedProcess[str]) -> str:
    """The output of what must have gone well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network by the build backend that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder]
    checked(run_pip(Path(sys.executable), "wheel", *options, TOP))
    return next(folder.glob("pipcache-*.whl"))


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """The interpreter of a fresh environment that has the dependencies from here, and pipcache of the wheel."""
    folder = tmp_path / "fresh"
    checked(_run([sys.executable, "-m", "venv", "--without-pip", folder]))
    site = next(folder.glob("lib/python*/site-packages"))
    # last in its path, so that what is installed in the fresh environment comes first; .pth files that lie there
    # (an editable pipcache) are not read
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--ignore-installed"]
    checked(run_pip(Path(sys.executable), "--python", python, "install", *options, wheel))
    where = checked(_run([python, "-c", "import pipcache; print(pipcache.__file__)"]))
    assert Path(where).is_relative_to(folder)
    return python


def _run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    environment = scrubbed_environment(PYTHONSAFEPATH="1")
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False)


def test_the_wheel_holds_the_program_and_nothing_else(wheel):
    """The package and the plugin; no tests, no caches, no `__init__.py` that would hide Twisted's own plugins."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"twisted/plugins/pipcache_plugin.py", "pipcache/py.typed", "pipcache/service/tap.py"} <= names
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/pipcache_plugin.py"}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pipcache", "twisted"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".cache")]
    expected = {str(path.relative_to(TOP)) for path in (TOP / "pipcache").rglob("*.py")}
    assert {name for name in names if name.startswith("pipcache/") and name.endswith(".py")} == expected


def is_listed(listing: str) -> bool:
    """Tell whether pipcache is among the commands that twistd lists; Twisted's own must be there too."""
    first_words = [line.split()[:1] for line in listing.partition("Commands:")[2].splitlines()]
    assert ["web"] in first_words
    return ["pipcache"] in first_words


def test_a_wheel_is_listed_and_serves(installed, tmp_path):
    """`twistd --help` names pipcache, and `twistd pipcache` answers."""
    assert is_listed(checked(_run([*twistd_of(installed), "--help"])))
    upstream = {"primary": {"name": "nowhere", "url": "http://127.0.0.1:9"}}
    with Server(tmp_path / "server", {"upstream": upstream}, python=installed) as server:
        assert server.health()["status"] == "healthy"


def test_an_editable_install_is_listed():
    """`make test` installs pipcache in place: twistd finds the plugin from anywhere."""
    direct = Distribution.from_name("pipcache").read_text("direct_url.json") or "{}"
    if not json.loads(direct).get("dir_info", {}).get("editable"):
        pytest.skip("pipcache is not installed in place here; make test does it")
    assert is_listed(checked(_run([*twistd_of(), "--help"])))
