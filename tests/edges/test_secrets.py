"""Secrets from variables, files and netrc: what is taken, and what is said where there is none."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from pathlib import Path

import pytest

from pipcache.edges.secrets import Logins, from_file, from_variable
from pipcache.rules.errors import ConfigError
from pipcache.rules.kinds import PASSWORD, TOKEN

SECRET = "canary-hush"


def test_a_variable() -> None:
    """It is taken as it is, blanks and all."""
    assert from_variable("X", {"X": " a b "}, PASSWORD) == " a b "


@pytest.mark.parametrize(
    ("environ", "trouble"),
    [
        ({}, "the environment has no variable X, or it is empty; allowed: one that holds a token"),
        ({"X": ""}, "the environment has no variable X, or it is empty; allowed: one that holds a token"),
        ({"X": f"two {SECRET}"}, "the variable X does not hold a token; allowed: letters, digits and signs"),
    ],
)
def test_a_variable_of_no_use(environ: dict[str, str], trouble: str) -> None:
    """The line names it and shows nothing of it."""
    with pytest.raises(ConfigError, match=f"^{re.escape(trouble)}") as caught:
        from_variable("X", environ, TOKEN)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("text", "secret"), [("a b", "a b"), ("a\n", "a"), (" a \r\n", " a "), ("é", "é")])
def test_a_file(tmp_path: Path, text: str, secret: str) -> None:
    """It is taken without the end of its line, as editors and `echo` write one."""
    path = tmp_path / "secret"
    path.write_bytes(text.encode())
    assert from_file(str(path), PASSWORD) == secret


def test_a_file_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "secret").write_text("x")
    assert from_file("~/secret", PASSWORD) == "x"


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        (None, "cannot be read (No such file or directory); allowed: a file with a password"),
        (b"", "is empty; allowed: a file with a password"),
        (b"\n", "is empty; allowed: a file with a password"),
        (b"\xff\xfe", "is no text in UTF-8; allowed: a file with a password"),
        (SECRET.encode() + b"\nmore\n", "does not hold a password; allowed: one line of text"),
    ],
)
def test_a_file_of_no_use(tmp_path: Path, content: bytes | None, trouble: str) -> None:
    """The line names the path and shows nothing of what is in it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path} {trouble}')}") as caught:
        from_file(str(path), PASSWORD)
    assert SECRET not in str(caught.value)


NETRC = "machine a.example login me password one\nmachine b.example account you password two\n"


def value(pair: str) -> str:
    """The field for a user and a password."""
    return "Basic " + b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("text", "host", "pair"),
    [
        (NETRC, "a.example", "me:one"),
        (NETRC, "b.example", "you:two"),
        (f"{NETRC}default login all password three\n", "c.example", "all:three"),
        (f"{NETRC}default login all password three\n", "a.example", "me:one"),
    ],
)
@pytest.mark.parametrize("place", ["NETRC", ".netrc", "_netrc"])
def test_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, host: str, pair: str, place: str) -> None:
    """The host's own entry, else the default one; from the file that the variable names, or from the home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / place
    path.write_text(text)
    environ = {"NETRC": str(path)} if place == "NETRC" else {}
    assert Logins(environ).authorization(host) == value(pair)


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        (None, r" cannot be read \(No such file or directory\); allowed: a netrc file"),
        (f"machine a login me password x\n{SECRET} b", ", line 2: not in netrc's form; allowed: machine, login, "),
        (f"machine a login me passwort {SECRET}", ", line 1: not in netrc's form; allowed: machine, login, "),
    ],
)
def test_netrc_of_no_use(tmp_path: Path, content: str | None, trouble: str) -> None:
    """The line names the file and shows nothing of what is in it."""
    path = tmp_path / "netrc"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}{trouble}") as caught:
        Logins({"NETRC": str(path)})
    assert SECRET not in str(caught.value)


def test_netrc_without_the_host(tmp_path: Path) -> None:
    """A host that netrc does not know gets nobody else's password."""
    path = tmp_path / "netrc"
    path.write_text(NETRC)
    with pytest.raises(
        ConfigError, match=r"netrc has no entry for c\.example; allowed: machine c\.example, or default"
    ):
        Logins({"NETRC": os.fspath(path)}).authorization("c.example")
