"""Installers beyond the pip and the uv that are at hand: the newest pip, Poetry and PDM, and projects with a lock file.

Each lives in an environment of its own, made once and kept in pytest's cache (`make clean` removes it). It comes from
wherever pip is configured to look; where it cannot be had, `Unavailable` says why, and a test skips with that.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.system.harness import Finished, pip_install, run, run_uv, scrubbed_environment, uv_install

TOOLS = {
    "newest pip": ["pip>=26"],  # the first with --uploaded-prior-to
    "old pip": ["pip<22.2"],  # the last that asks for HTML only
    "poetry": ["poetry>=2.5"],  # has min-release-age
    "pdm": ["pdm[locked]>=2.29"],  # with the newest hishel and unearth PDM 2.29 ends with an error of its own
}
"""What is installed for each tool."""


class Unavailable(Exception):
    """A tool that cannot be installed here; the text says why."""


def provide(name: str, pip: Path, folder: Path, failures: Path) -> Path:
    """Return the interpreter of a tool's environment, installing it unless that was done before.

    Args:
        name: one of `TOOLS`.
        pip: an interpreter that has pip, which installs.
        folder: where environments are kept; test processes share it, and one installs while others wait.
        failures: where this run of the tests notes what could not be installed, so that it is tried once.

    Raises:
        Unavailable: the tool cannot be installed.
    """
    tag = f"{name.replace(' ', '-')}-{sys.implementation.cache_tag}"
    environment, done, failed = folder / tag, folder / f"{tag}.done", failures / f"{tag}.failed"
    python = environment / "bin" / "python"
    with (folder / f"{tag}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if failed.exists():
            raise Unavailable(failed.read_text())
        recipe = f"{sys.base_prefix} {TOOLS[name]}"
        if not (done.exists() and done.read_text() == recipe):
            done.unlink(missing_ok=True)
            problem = _install(pip, environment, TOOLS[name])
            if problem:
                failed.write_text(f"{name} cannot be installed: {problem}")
                raise Unavailable(failed.read_text())
            done.write_text(recipe)
    return python


def _install(pip: Path, environment: Path, requirements: list[str]) -> str:
    """Make an environment with these; says what went wrong, nothing for nothing."""
    # what steers pip here is wanted: it may be the only way to an index
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    install = [pip, "-m", "pip", "--python", environment / "bin" / "python", "install", "--quiet"]
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", "--without-pip", environment],
            [*install, "--retries=1", "--timeout=15", "--only-binary=:all:", *requirements],
        ):
            finished = run(command, variables, timeout=240)
            if finished.returncode:
                return (finished.stderr.strip() or "no reason given").splitlines()[-1]
    except subprocess.TimeoutExpired:
        return "it took more than four minutes"
    return ""


def write_project(folder: Path, tool: str, index_url: str, requirements: tuple[str, ...]) -> None:
    """Write a `pyproject.toml` that needs these, from this index alone, and where it is missing a bare `.venv`."""
    table = {
        "poetry": '[tool.poetry]\npackage-mode = false\n[[tool.poetry.source]]\nname = "here"\npriority = "primary"\n',
        "pdm": '[tool.pdm]\ndistribution = false\n[[tool.pdm.source]]\nname = "pypi"\nverify_ssl = true\n',
        "uv": '[tool.uv]\npackage = false\n[[tool.uv.index]]\nname = "here"\ndefault = true\n',
    }[tool]
    project = '[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.11,<4"\n'
    folder.mkdir(parents=True, exist_ok=True)
    needed = f"dependencies = [{', '.join(f'{each!r}' for each in requirements)}]\n"
    (folder / "pyproject.toml").write_text(f'{project}{needed}{table}url = "{index_url}"\n')
    if not (folder / ".venv").exists():
        done = run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], scrubbed_environment())
        assert done.returncode == 0, done.stderr


def site_of(folder: Path) -> Path:
    """Where an installer puts packages: in the environment of the project in a folder, else in the folder itself."""
    return next(folder.glob(".venv/lib/python*/site-packages"), folder)


def check(done: Finished, folder: Path, versions: dict[str, str]) -> None:
    """Assert that an installer ended well and that a fresh interpreter finds these versions where it installed."""
    assert done.returncode == 0, done.stdout + done.stderr
    code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__version__)"
    environment = scrubbed_environment(PYTHONPATH=str(site_of(folder)))
    found = subprocess.check_output([sys.executable, "-c", code, *versions], env=environment, text=True)
    assert found.split() == list(versions.values())


def run_poetry(
    python: Path, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 180
) -> Finished:
    """Run Poetry on the project in a folder, untouched by this machine's settings and caches of Poetry."""
    own = {f"POETRY_{kind}_DIR": str(folder / f".poetry-{kind.lower()}") for kind in ("CACHE", "CONFIG", "DATA")}
    fixed = {"POETRY_VIRTUALENVS_IN_PROJECT": "true", "POETRY_KEYRING_ENABLED": "false"}
    variables = scrubbed_environment(**own, **fixed, **(environment or {}))
    words = ["--no-interaction", "--no-ansi", "-v", "--directory", folder]
    return run([python, "-m", "poetry", *words, *arguments], variables, timeout)


def run_pdm(python: Path, folder: Path, *arguments: str, timeout: float = 180) -> Finished:
    """Run PDM on the project in a folder, untouched by this machine's settings and caches of PDM."""
    own = {"PDM_CACHE_DIR": str(folder / ".pdm-cache"), "PDM_CONFIG_FILE": str(folder / ".pdm-config.toml")}
    own |= {"PDM_LOG_DIR": str(folder / ".pdm-log"), "PDM_CHECK_UPDATE": "false"}
    variables = scrubbed_environment(**own)
    return run([python, "-m", "pdm", *arguments, "--project", folder], variables, timeout)


def install_with(
    name: str,
    python: Path,
    index_url: str,
    folder: Path,
    *requirements: str,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Resolve and install with one of the installers: into a folder, or for Poetry and PDM as a project in a folder.

    Args:
        name: of `TOOLS`, or `uv`, or `pip`.
        python: the interpreter of its environment; uv has none.
        index_url: the one index that is asked.
        folder: see `site_of`.
        requirements: what is needed.
        options: more for the command that installs.
        environment: more variables, which only Poetry is given.
    """
    if name == "uv":
        return uv_install(index_url, folder, *options, *requirements)
    if name.endswith("pip"):
        return pip_install(python, index_url, folder, *options, *requirements)
    write_project(folder, name, index_url, requirements)
    if name == "poetry":
        return run_poetry(python, folder, "install", *options, environment=environment)
    return run_pdm(python, folder, "install", *options)


def run_uv_on(folder: Path, *arguments: str) -> Finished:
    """Run a command of uv on the project in a folder, without uv's own cache."""
    words = ["--directory", folder, "--python", sys.executable, "--no-cache"]
    return run_uv(*arguments, *words)
