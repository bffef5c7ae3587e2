"""The files at the top of the repository do what the README says of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
COPIED = [
    source
    for line in re.findall(r"^COPY (.+) \S+$", (TOP / "Dockerfile").read_text(), re.MULTILINE)
    for source in line.split()
]

# Stands for an interpreter: new enough, and "makes" an environment whose programs note how they are called.
FAKE_PYTHON = """#!/bin/sh
echo "python $*" >> calls
test "$2" = venv || exit 0
mkdir -p .venv/bin
for name in python twistd; do
  printf '#!/bin/sh\\necho ".venv/bin/%s $*" >> calls\\n' $name > .venv/bin/$name
  chmod +x .venv/bin/$name
done
"""


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run make, as from a shell of its own even when make runs this test."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS")
    }
    return subprocess.run(
        ["make", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile, a pyproject.toml and an interpreter that only notes what it is asked."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(TOP / name, tmp_path)
    (tmp_path / "fake-python").write_text(FAKE_PYTHON)
    (tmp_path / "fake-python").chmod(0o755)
    return tmp_path


def calls(checkout: Path) -> list[str]:
    """Take the calls that were noted, without the questions for a version."""
    noted = (checkout / "calls").read_text().splitlines()
    (checkout / "calls").unlink()
    return [call for call in noted if " -c " not in call and "--version" not in call]


@pytest.mark.parametrize("words", [[], ["help"]])
def test_make_lists_its_targets(words):
    """`make` and `make help` name each target with its effect, and do nothing."""
    listed = make(TOP, *words).stdout.splitlines()
    targets = ["help", "run", "test", "test-oldest", "lint", "bench", "bench-quick", "clean"]
    assert [line.split()[1] for line in listed] == targets
    assert all(len(line.split()) > 3 for line in listed)


def test_make_run_sets_up_once_and_starts_the_service(checkout):
    """The first run makes the environment and installs; the second only starts, with the options given."""
    assert make(checkout, "run", "PYTHON=./fake-python").returncode == 0
    assert calls(checkout) == [
        "python -m venv --clear .venv",
        ".venv/bin/python -m pip --quiet --disable-pip-version-check install --editable .",
        ".venv/bin/twistd --nodaemon --pidfile= pipcache",
    ]
    assert make(checkout, "run", "PYTHON=./fake-python", "ARGS=--config x.yaml").returncode == 0
    assert calls(checkout) == [".venv/bin/twistd --nodaemon --pidfile= pipcache --config x.yaml"]


def test_make_run_installs_again_when_the_project_changed(checkout):
    """A newer pyproject.toml may name new dependencies, so the install is redone; the environment stays."""
    make(checkout, "run", "PYTHON=./fake-python")
    calls(checkout)
    newer = (checkout / ".venv/.installed").stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (newer, newer))
    make(checkout, "run", "PYTHON=./fake-python")
    assert calls(checkout)[0].endswith("install --editable .")


def test_the_oldest_versions_are_the_lower_bounds(checkout):
    """Of every dependency; what `make test-oldest` installs."""
    assert make(checkout, ".venv/.lower-bounds", "PYTHON=./fake-python").returncode == 0
    wanted = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]
    assert (checkout / ".venv/.lower-bounds").read_text().splitlines() == [each.replace(">=", "==") for each in wanted]


def test_make_says_in_one_line_that_python_is_too_old(checkout):
    """An interpreter that is too old, or none, is named with what is needed; nothing is made."""
    done = make(checkout, "run", "PYTHON=false")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert said == ['pipcache needs Python 3.11 or newer, "false" is not: try make run PYTHON=python3.12']
    assert not (checkout / ".venv").exists()


def test_make_clean_keeps_the_cache(checkout):
    """What tools left goes; cached files stay."""
    for folder in (".venv", "cache", "pipcache/__pycache__", "twisted", "tests", "bench/.peers", ".mypy_cache"):
        (checkout / folder).mkdir(parents=True)
    assert make(checkout, "clean").returncode == 0
    left = {path.name for path in checkout.iterdir()}
    assert left == {"Makefile", "pyproject.toml", "fake-python", "cache", "pipcache", "twisted", "tests", "bench"}
    assert not (checkout / "bench/.peers").exists()
    assert not (checkout / "pipcache/__pycache__").exists()


def test_ci_runs_make_test_at_the_top(tmp_path):
    """`.ci/run` calls `make test test-oldest` in the top folder, wherever it is started, and passes its status on."""
    (tmp_path / "make").write_text('#!/bin/sh\necho "$PWD $*"\nexit 7\n')
    (tmp_path / "make").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [TOP / ".ci/run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == (f"{TOP} test test-oldest\n", 7)


@pytest.mark.parametrize("source", COPIED)
def test_the_image_is_made_of_what_is_there(source):
    """Everything the Dockerfile copies exists, and .dockerignore lets it through."""
    assert (TOP / source).exists()
    is_ignored = False
    for line in (TOP / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch(source, line.removeprefix("!")):
            is_ignored = not line.startswith("!")
    assert not is_ignored


def test_the_image_holds_the_package_and_its_plugin():
    """What the wheel is built of is copied: the two packages, the project file and the files it names."""
    assert set(COPIED) == {"pyproject.toml", "README.md", "LICENSE", "pipcache", "twisted"}


def test_the_image_runs_without_root_and_without_a_pid_file():
    """The user is not root, no stale pid can stop it, and the documented port and volume are there."""
    lines = (TOP / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "pipcache"]' in lines
    assert {"USER pipcache", "EXPOSE 8080", "VOLUME /cache"} <= set(lines)
    assert any("useradd --uid 1000 " in line for line in lines)
