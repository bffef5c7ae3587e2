"""The command: choose scenarios, set the stage, run them, print the table and write it down."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench.corpus import Corpus
from bench.memory import loose_pages
from bench.peers import PeerError, Peers, python_for_servers
from bench.results import Work, report, table
from bench.scenario import Scenario
from bench.scenarios import SCENARIOS
from bench.servers import run_upstream
from bench.settings import has_access_log
from bench.stage import Stage
from bench.tls import make_certificates
from pipcache import __version__
from pipcache.rules.settings import KEYS

_HERE = Path(__file__).resolve().parent
_DESCRIPTORS = 8192
_LOOSE_BYTES = {False: 4 << 30, True: 1 << 30}


def main(words: Sequence[str]) -> int:
    """Run the bench; 0 where every scenario came to its end, whatever the figures say."""
    options = parse(words)
    if options.list:
        sys.stdout.write("".join(f"{each.name}\n" for each in SCENARIOS))
        return 0
    chosen = choose(options.only, is_quick=options.quick)
    missing = {options.server_core, options.client_core} - os.sched_getaffinity(0)
    if missing or options.server_core == options.client_core:
        sys.stderr.write("bench: two cores are needed, one for servers and one for clients; see --server-core\n")
        return 1
    os.sched_setaffinity(0, {options.client_core})
    try:
        peers = Peers(_HERE / ".peers", python_for_servers(options.python))
        peers.install()
        folder = working_folder(options.work, max(each.needs_gb for each in chosen))
    except (PeerError, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    allow_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped on the way out
    try:
        works, failures = run(options, chosen, peers, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    is_whole = not options.quick and not options.only
    text = report(works, versions(peers), command_of(words), (*notes_of(options), *failures))
    target = options.output or _HERE / ("RESULTS.md" if is_whole else ".results.md")
    target.write_text(text)
    sys.stdout.write(f"{table(works)}\n\nWritten to {target}\n" + "".join(f"FAILED {each}\n" for each in failures))
    return 1 if failures else 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, without the slowest scenarios")
    parser.add_argument("--only", default="", metavar="NAMES", help="scenarios to run, with commas between them")
    parser.add_argument("--list", action="store_true", help="list the scenarios, and do nothing else")
    parser.add_argument("--rounds", type=int, help="how often each server is measured (5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="how long each time (4; quick: 1)")
    parser.add_argument("--work", type=Path, help="a folder for caches; default: a RAM disk where there is room")
    parser.add_argument("--output", type=Path, help="default: bench/RESULTS.md for a whole run, else bench/.results.md")
    parser.add_argument("--python", help="what servers in Python run on; default: the system's, where it is new enough")
    parser.add_argument("--server-core", type=int, default=0, help="the core that servers run on (0)")
    parser.add_argument("--client-core", type=int, default=1, help="the core of clients and upstream (1)")
    return parser.parse_args(words)


def choose(only: str, *, is_quick: bool) -> tuple[Scenario, ...]:
    """The scenarios that were asked for; a slow one counts when it is named.

    Raises:
        SystemExit: there is no such scenario.
    """
    names = [name for name in only.replace(",", " ").split() if name]
    unknown = set(names) - {each.name for each in SCENARIOS}
    if unknown:
        raise SystemExit(f"bench: no scenario {', '.join(sorted(unknown))}; --list names them")
    if names:
        return tuple(each for each in SCENARIOS if each.name in names)
    return tuple(each for each in SCENARIOS if not (is_quick and each.is_slow))


def working_folder(given: Path | None, needs_gb: int) -> Path:
    """A new folder for everything that is made in a run.

    Raises:
        OSError: there is not enough room.
    """
    places = [given] if given else [Path("/dev/shm"), Path(tempfile.gettempdir())]
    for place in places:
        if place.is_dir() and shutil.disk_usage(place).free > needs_gb * 10**9:
            return Path(tempfile.mkdtemp(prefix="pipcache-bench-", dir=place))
    raise OSError(f"{needs_gb} GB are needed and neither of {', '.join(map(str, places))} has them; give --work")


def allow_descriptors() -> None:
    """Let this process, and the servers that it starts, hold a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def run(
    options: argparse.Namespace, chosen: Sequence[Scenario], peers: Peers, folder: Path
) -> tuple[list[Work], list[str]]:
    """Run the scenarios; what came of them, and a line for each that broke off."""
    works: list[Work] = []
    failures: list[str] = []
    say(f"making the upstream's files in {folder}")
    corpus = Corpus(folder / "corpus")
    corpus.make()
    certificates = make_certificates(folder)
    with (
        loose_pages(_LOOSE_BYTES[options.quick]),
        run_upstream(peers, folder / "upstream", corpus.root, certificates, options.client_core) as upstream,
    ):
        stage = Stage(
            folder,
            corpus,
            peers,
            certificates,
            upstream,
            options.server_core,
            options.client_core,
            options.quick,
            options.rounds or (2 if options.quick else 5),
            options.seconds or (1 if options.quick else 4),
        )
        for scenario in chosen:
            began_at = time.monotonic()
            try:
                works.append(scenario.run(stage))
            except Exception as error:
                traceback.print_exc()
                failures.append(f"{scenario.name}: {type(error).__name__}: {str(error)[:300]}")
            say(f"{scenario.name}: {time.monotonic() - began_at:.1f} s")
    return works, failures


def versions(peers: Peers) -> dict[str, str]:
    """What was measured, and on what."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "pipcache": __version__,
        **peers.versions(),
        "pip": version("pip"),
        "uv": version("uv"),
        "kernel": platform.release(),
        "processor": f"{len(cpus)} x {cpus[0].partition(':')[2].strip()}" if cpus else "unknown",
    }


def notes_of(options: argparse.Namespace) -> list[str]:
    """What is true of every row."""
    log = (
        "pipcache writes its access log (log.access: combined), nginx its own."
        if has_access_log(KEYS)
        else "pipcache has no access log yet (setting log.access): it ran without one, nginx with its own."
    )
    return [
        log,
        f"Servers ran on core {options.server_core}, clients and the upstream on core {options.client_core}.",
        "nginx: proxy_cache, one worker, sendfile on, tcp_nopush off, proxy_cache_lock on.",
        "Memory for what is fetched is kept from the host (bench/memory.py); without, large cold bodies measure the host.",
        "Processor time is counted in ticks of 10 ms, so it is coarse where a round does little.",
        f"Servers in Python ran on the Python that is named above (--python), the bench on {platform.python_version()}.",
        "RSS is the sum over a server's processes; what nginx's four share is counted four times.",
    ]


def command_of(words: Sequence[str]) -> str:
    """How to do the same again."""
    return " ".join(["python -m bench", *words])


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    sys.stderr.write(f"bench: {text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
