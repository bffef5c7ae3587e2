"""Configuration: which file counts, what is said when it cannot be read, and where the cache goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import frozen

from pipcache.rules.errors import ConfigError
from pipcache.rules.settings import Settings
from pipcache.service.configuration import Configuration, choose_cache_dir, load_configuration


@frozen
class Machine:
    """Three directories in which a configuration file may lie, all empty."""

    cwd: Path
    home: Path
    etc: Path

    def write(self, place: str, port: int) -> Path:
        """A file in one of the three places that sets the port."""
        folder = {"cwd": self.cwd, "home": self.home / ".pipcache", "etc": self.etc / "pipcache"}[place]
        folder.mkdir(exist_ok=True)
        path = folder / "pipcache.yaml"
        path.write_text(f"server: {{port: {port}}}\n", encoding="utf-8")
        return path

    def load(
        self,
        config_path: str | None = None,
        options: dict[str, object] | None = None,
        environ: dict[str, str] | None = None,
    ) -> Configuration:
        """What `load_configuration` makes of this machine."""
        return load_configuration(config_path, options or {}, environ or {}, self.home, self.cwd, self.etc)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without any configuration."""
    paths = [tmp_path / name for name in ("cwd", "home", "etc")]
    for path in paths:
        path.mkdir()
    return Machine(*paths)


def test_without_a_file_the_defaults_hold(machine: Machine) -> None:
    """No file anywhere is no error."""
    assert machine.load() == Configuration(Settings(), "no file, the defaults", ())


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["cwd", "home", "etc"], "cwd"),
        (["home", "etc"], "home"),
        (["etc"], "etc"),
    ],
)
def test_the_first_file_counts_alone(machine: Machine, places: list[str], expected: str) -> None:
    """The working directory, then the home, then the machine; files are not merged."""
    files = {place: machine.write(place, port) for port, place in enumerate(places, 1)}
    configuration = machine.load()
    assert configuration.source == str(files[expected])
    assert configuration.settings.server.port == 1


def test_a_named_file_counts_alone(machine: Machine) -> None:
    """With `--config` the usual places are not looked at; it may be relative, or in `~`."""
    machine.write("cwd", 1)
    machine.write("home", 2)
    (machine.cwd / "other.yaml").write_text("log: {level: warn}", encoding="utf-8")
    configuration = machine.load("other.yaml")
    assert (configuration.settings.server.port, configuration.settings.log.level) == (8080, "warn")
    assert configuration.source == str(machine.cwd / "other.yaml")
    assert machine.load("~/.pipcache/pipcache.yaml").settings.server.port == 2
    assert machine.load(str(machine.home / ".pipcache/pipcache.yaml")).settings.server.port == 2


def test_file_environment_options_in_this_order(machine: Machine) -> None:
    """The environment wins over the file, options win over both, and unknown variables are told."""
    machine.write("cwd", 1)
    environ = {"PIPCACHE_SERVER_PORT": "2", "PIPCACHE_NOISE": "x"}
    configuration = machine.load(environ=environ)
    assert configuration.settings.server.port == 2
    assert len(configuration.warnings) == 1
    assert configuration.warnings[0].startswith("PIPCACHE_NOISE: ")
    assert machine.load(environ=environ, options={"server.port": 3}).settings.server.port == 3


def test_a_named_file_that_is_not_there_is_an_error(machine: Machine) -> None:
    """Who names a file wants that one."""
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        machine.load("none.yaml")


@pytest.mark.parametrize("config_path", [None, "pipcache.yaml"])
def test_a_file_that_cannot_be_read_is_an_error(machine: Machine, config_path: str | None) -> None:
    """A directory in the file's place, found or named, is one line with its path."""
    (machine.cwd / "pipcache.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"^\S*pipcache\.yaml: cannot be read \(Is a directory\)[^\n]*$"):
        machine.load(config_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_error(machine: Machine) -> None:
    """A file that is there and may not be read is not passed over."""
    machine.write("cwd", 1).chmod(0)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        machine.load()


def test_a_home_that_cannot_be_looked_into_is_left_out(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the home may be somebody else's: that is a warning, and the next place counts."""
    etc = machine.write("etc", 5)
    stat = Path.stat

    def guarded(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if machine.home in path.parents:
            raise PermissionError(13, "Permission denied")
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", guarded)
    configuration = machine.load()
    assert configuration.source == str(etc)
    assert "Permission denied" in configuration.warnings[0]


def test_text_that_is_not_utf_8_is_an_error(machine: Machine) -> None:
    """Bytes that are no text are one line, no traceback."""
    (machine.cwd / "pipcache.yaml").write_bytes(b"log: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"cannot be read \([^\n]*\); allowed: YAML text in UTF-8$"):
        machine.load()


def test_a_byte_order_mark_is_no_part_of_the_text(machine: Machine) -> None:
    """Some editors write one at the start of each file."""
    (machine.cwd / "pipcache.yaml").write_bytes(b"\xef\xbb\xbflog: {level: warn}\n")
    assert machine.load().settings.log.level == "warn"


def test_an_error_names_the_file(machine: Machine) -> None:
    """A bad value ends with the path of the file that it stands in."""
    path = machine.write("home", 70000)
    with pytest.raises(ConfigError) as caught:
        machine.load()
    assert str(caught.value).endswith(f"(from {path})")


def test_a_cache_dir_that_is_set_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether or not it exists; `~` is the home, and a relative path starts at the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for configured in ("~/kept", "kept", str(tmp_path / "kept")):
        path, reason = choose_cache_dir(configured)
        assert path == tmp_path / "kept"
        assert str(path) in reason
        assert "cache.dir" in reason
    assert not (tmp_path / "kept").exists()


def test_the_default_cache_dir_is_taken_where_it_can_be_written(tmp_path: Path) -> None:
    """Nobody set one, and `/cache` is there."""
    path, reason = choose_cache_dir(None, tmp_path)
    assert path == tmp_path
    assert "default" in reason


@pytest.mark.parametrize("trouble", ["missing", "a file", "read-only"])
def test_else_the_cache_is_the_users(trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where `/cache` is no use, the user's cache directory is taken; the log hears why; nothing is made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    default = tmp_path / "cache"
    if trouble == "a file":
        default.touch()
    if trouble == "read-only":
        default.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = sorted(tmp_path.rglob("*"))
    path, reason = choose_cache_dir(None, default)
    assert path.is_relative_to(tmp_path)
    assert path != default
    assert "pipcache" in str(path)
    assert str(path) in reason
    assert str(default) in reason
    assert sorted(tmp_path.rglob("*")) == before
