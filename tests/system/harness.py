"""Run the real program, a real index and real installers, each in a process of its own.

Everything here blocks, with a time limit: system tests do not use the reactor. A process is ended by the
object that started it, by its id, whatever the test did. Nothing of this machine's settings reaches the
processes: the variables of installers, of pipcache, of HTTP proxies and of certificates are taken out of their environment.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

TOP = Path(__file__).resolve().parents[2]
"""The folder of the repository."""

_SCRIPTS = Path(sys.executable).parent
_INSTALLERS = ("PIP_", "UV_", "POETRY_", "PDM_")
_SCRUBBED = (*_INSTALLERS, "PIPCACHE_", "PYTHON", "VIRTUAL_ENV", "REQUESTS_CA_BUNDLE", "SSL_CERT_", "NETRC")


def scrubbed_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would steer an installer or the program, plus `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SCRUBBED) and not name.lower().endswith("_proxy")
    }
    return kept | more


def free_port() -> int:
    """Find a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def twistd_of(python: Path | None = None) -> list[str | Path]:
    """Return the words that start twistd: this environment's script, or twistd as another interpreter has it."""
    if python is None:
        return [_SCRIPTS / "twistd"]
    return [python, "-c", "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"]


class Process:
    """A process with its output in a file; leaving the `with` kills it where it still runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs; a failing test shows what the process said."""
        self.kill()
        if kind is not None:
            sys.stderr.write(f"--- {self.log_path.name}\n{self.log}\n")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What the process wrote so far, and its predecessors in the same folder."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def spawn(self, command: Sequence[str | Path], environment: Mapping[str, str], cwd: Path) -> None:
        """Start a process that appends to the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, timeout: float = 20) -> int:
        """Wait for the end of the process and return its exit status; negative: the signal that ended it."""
        return self.process.wait(timeout)

    def terminate(self, timeout: float = 20) -> int:
        """Send SIGTERM and return the exit status; the process has so many seconds."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """Send SIGKILL where the process still runs, and wait for its end."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)


class Server(Process):
    """The real program on 127.0.0.1, with settings of the test's: `with Server(folder, {...}) as server`.

    The folder gets `pipcache.yaml`, `pipcache.log` and, unless the settings say otherwise, the `cache`.
    Starting again after `terminate` or `kill` uses the same port and the same cache.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Mapping[str, Any]],
        *,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        use_tac: bool = False,
        python: Path | None = None,
        open_files: int | None = None,
    ) -> None:
        """Prepare, but start nothing.

        Args:
            folder: where the server lives; made when it is missing.
            settings: sections and keys as in `pipcache.yaml`; they win over the defaults of the harness.
            environment: more variables for the process.
            options: more options of `twistd pipcache`.
            use_tac: start `pipcache.tac`, which finds the settings in its working directory, not the plugin.
            python: of the environment whose installed pipcache is started; None: this checkout is.
            open_files: the limit of descriptors that the process gets; None: that of the tests.
        """
        super().__init__(folder, "pipcache")
        self.port = free_port()
        self.cache = folder / "cache"
        ours = {"server": {"host": "127.0.0.1", "port": self.port}, "cache": {"dir": str(self.cache)}}
        self.settings = {
            section: {**ours.get(section, {}), **settings.get(section, {})} for section in {**ours, **settings}
        }
        self.environment = dict(environment or {})
        self._options = list(options)
        self._use_tac = use_tac
        self._python = python
        self._open_files = open_files

    def __enter__(self) -> Self:
        """Start, and wait until the program answers."""
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    @property
    def url(self) -> str:
        """Where the program listens, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def index_url(self) -> str:
        """What an installer is given."""
        return f"{self.url}/simple/"

    def launch(self) -> None:
        """Write the settings and start the program, without waiting for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "pipcache.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        twistd = [*twistd_of(self._python), "--nodaemon", "--pidfile="]
        if self._use_tac:
            command = [*twistd, "--python", TOP / "pipcache.tac", *self._options]
        else:
            command = [*twistd, "pipcache", "--config", config, *self._options]
        if self._open_files is not None:
            command = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(self._open_files), *command]
        # PYTHONPATH, so that this checkout is what runs, whether or not it is installed
        where = {"PYTHONPATH": str(TOP)} if self._python is None else {"PYTHONSAFEPATH": "1"}
        environment = scrubbed_environment(PYTHONUNBUFFERED="1", **where, **self.environment)
        self.spawn([str(word) for word in command], environment, self.folder)

    def start(self, tries: int = 300) -> None:
        """Start the program and wait until `/health` answers, for about so many times a tenth of a second.

        Raises:
            AssertionError: the program ended or did not answer in time; with what it logged.
        """
        self.launch()
        for _ in range(tries):
            if self.is_up():
                return
            try:
                status = self.process.wait(0.1)  # a pause that ends early when the program does
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the program ended with status {status}:\n{self.log}")
        raise AssertionError(f"the program does not answer:\n{self.log}")

    def is_up(self) -> bool:
        """Tell whether `/health` answers with 200."""
        try:
            return self.get("/health", timeout=2)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def health(self) -> dict[str, Any]:
        """Return what `/health` says."""
        return dict(json.loads(self.get("/health")[2]))

    def get(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        timeout: float = 30,
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the program once; returns status, header fields in lower case, and body.

        Raises:
            http.client.IncompleteRead: the body ended before its time.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, response.read()
        finally:
            connection.close()


class IndexServer(Process):
    """An index folder, see `tests.fakes.index`, served by a process of its own on a port of 127.0.0.1."""

    def __init__(self, folder: Path, work: Path) -> None:
        """Prepare; `folder` is what is served, `work` is where the logs go."""
        super().__init__(work, "index")
        self.served = folder
        self.port = 0
        self._requests_path = work / "index-requests.log"

    def __enter__(self) -> Self:
        """Start, and wait until it listens."""
        self.start()
        return self

    @property
    def url(self) -> str:
        """Where it listens, without a final slash; the same after a restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[str]:
        """Every request so far, as `METHOD TARGET`, in the order of their arrival."""
        return self._requests_path.read_text().splitlines() if self._requests_path.exists() else []

    def count(self, target: str, method: str = "GET") -> int:
        """Count the requests for a target."""
        return self.requests.count(f"{method} {target}")

    def start(self) -> None:
        """Start the server; it listens when this returns."""
        self.port = self.port or free_port()
        module = [sys.executable, "-m", "tests.fakes.serve_index", str(self.served)]
        options = ["--port", str(self.port), "--log", str(self._requests_path.resolve())]
        self.spawn([*module, *options], scrubbed_environment(PYTHONPATH=str(TOP)), TOP)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 2).close()
            except OSError:
                pass
            else:
                return
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"the index server did not start:\n{self.log}")


Finished = subprocess.CompletedProcess[str]


def run(command: Sequence[str | Path], environment: Mapping[str, str], timeout: float = 180) -> Finished:
    """Run a command to its end, in no folder of this checkout."""
    words = [str(word) for word in command]
    # away from this checkout, whose pyproject.toml is not the installers' business
    where = tempfile.gettempdir()
    return subprocess.run(
        words, env=environment, cwd=where, capture_output=True, text=True, timeout=timeout, check=False
    )


def make_venv(folder: Path) -> Path:
    """Make a bare environment with the pip that Python brings; returns its interpreter."""
    done = run([sys.executable, "-m", "venv", folder], scrubbed_environment(), timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin" / "python"


def run_pip(
    python: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 180
) -> Finished:
    """Run the pip of an environment, untouched by this machine's settings of pip."""
    ours = scrubbed_environment(
        PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", **(environment or {})
    )
    return run([python, "-m", "pip", *arguments], ours, timeout)


def pip_install(python: Path, index_url: str, target: Path, *arguments: str | Path) -> Finished:
    """Install into a folder with pip, from one index, without pip's own cache."""
    where = ["--index-url", index_url, "--no-cache-dir", "--target", target]
    return run_pip(python, "install", *where, *arguments)


def run_uv(*arguments: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 180) -> Finished:
    """Run uv, untouched by this machine's settings of uv."""
    ours = scrubbed_environment(UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", **(environment or {}))
    return run([_SCRIPTS / "uv", *arguments], ours, timeout)


def uv_install(index_url: str, target: Path, *arguments: str | Path) -> Finished:
    """Install into a folder with uv, from one index, without uv's own cache."""
    where = ["--default-index", index_url, "--no-cache", "--target", target, "--python", sys.executable]
    return run_uv("pip", "install", *where, *arguments)
