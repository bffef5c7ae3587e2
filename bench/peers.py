"""What is measured, and with: pipcache, Debian's nginx and wrk, proxpi and devpi-server. Installed where they are missing.

Nothing is installed into the system: Debian's packages are unpacked into ``bench/.peers``, where no service is started,
and each program in Python gets an environment of its own there. One that cannot be had is an error.

These run on the system's Python, as nginx is the system's: distributions build theirs with profiles and across files, which
whoever builds one by hand mostly leaves out: a fifth for loops that do nothing else. The bench itself may run on another.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_DEBS: Final = ("nginx", "wrk", "libluajit-5.1-2", "libpcre2-8-0")
TOP: Final = Path(__file__).resolve().parents[1]
_PACKAGES: Final = {
    "pipcache": ("--editable", str(TOP)),
    "proxpi": ("proxpi", "gunicorn"),
    "devpi": ("devpi-server",),
}
_SYSTEMS_PYTHON: Final = "/usr/bin/python3"
_VERSION: Final = "import platform; print(platform.python_version())"
_IS_NEW_ENOUGH: Final = "import sys, venv; sys.exit(sys.version_info < (3, 11))"


class PeerError(Exception):
    """A peer is missing and cannot be installed."""


class Peers:
    """Where each program is."""

    def __init__(self, folder: Path, python: str) -> None:
        """The programs in this folder; those in Python run on ``python``."""
        self._folder = folder
        self.python = python
        self.nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or str(
            folder / "debian/usr/sbin/nginx"
        )
        self.wrk = shutil.which("wrk") or str(folder / "debian/usr/bin/wrk")
        self.pipcache = folder / "pipcache/bin"
        self.proxpi = folder / "proxpi/bin"
        self.devpi = folder / "devpi/bin"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, in which the unpacked programs find their libraries."""
        libraries = self._folder / f"debian/usr/lib/{platform.machine()}-linux-gnu"
        return {**os.environ, "LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else dict(os.environ)

    def install(self) -> None:
        """Get what is missing.

        Raises:
            PeerError: one cannot be had.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (Path(self.nginx).exists() and Path(self.wrk).exists()):
            self._unpack_debs()
        for name, packages in _PACKAGES.items():
            self._make_environment(name, packages)
        programs = (self.pipcache / "twistd", self.proxpi / "gunicorn", self.devpi / "devpi-server")
        for path in (self.nginx, self.wrk, *programs):
            if not Path(path).exists():
                raise PeerError(f"{path} is still missing after its installation")

    def versions(self) -> dict[str, str]:
        """The version of each."""
        nginx = _run([self.nginx, "-v"], self.environment).rpartition("/")[2]
        wrk = subprocess.run([self.wrk, "-v"], env=self.environment, capture_output=True, text=True, check=False)
        said = (wrk.stdout + wrk.stderr).split()
        return {
            "Python": f"{_run([self.python, '-c', _VERSION]).strip()}{_whose(self.python)}",
            "Twisted": self._version("pipcache", "twisted"),
            "nginx": nginx.strip(),
            "wrk": said[1] if len(said) > 1 else "unknown",
            "proxpi": self._version("proxpi", "proxpi"),
            "devpi-server": self._version("devpi", "devpi-server"),
        }

    def _make_environment(self, name: str, packages: tuple[str, ...]) -> None:
        """Make a program's environment, where it is not there as it should be. Debian's Python may come without pip."""
        environment = self._folder / name
        stamp = environment / "installed"
        wanted = f"{self.python} {packages} {(TOP / 'pyproject.toml').read_text() if name == 'pipcache' else ''}"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        _run([self.python, "-m", "venv", "--clear", "--without-pip", str(environment)])
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--python", str(environment / "bin/python"), "install", *packages])
        stamp.write_text(wanted)

    def _version(self, environment: str, package: str) -> str:
        ask = f"from importlib.metadata import version; print(version({package!r}))"
        return _run([str(self._folder / environment / "bin/python"), "-c", ask]).strip()

    def _unpack_debs(self) -> None:
        folder = self._folder / "debs"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            _run(["apt-get", "--quiet", "download", *_DEBS], cwd=folder)
            for package in sorted(folder.glob("*.deb")):
                _run(["dpkg", "--extract", str(package), str(self._folder / "debian")])
        except PeerError as error:
            raise PeerError(f"nginx and wrk: run apt-get update, or install them yourself; {error}") from error


def python_for_servers(asked: str | None) -> str:
    """The Python that servers run on: the one that is asked for, else the system's, else this one."""
    if asked:
        return asked
    try:
        _run([_SYSTEMS_PYTHON, "-c", _IS_NEW_ENOUGH])
    except PeerError:
        return sys.executable
    return _SYSTEMS_PYTHON


def _whose(python: str) -> str:
    return ", the system's" if python == _SYSTEMS_PYTHON else ""


def _run(command: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command to its end; what it said.

    Raises:
        PeerError: it is not there or failed; with the last of what it said.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise PeerError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout + done.stderr
