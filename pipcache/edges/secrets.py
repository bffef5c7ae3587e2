"""Secrets from where operators keep them: environment variables, files, netrc. None is in an error's text."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping

from pipcache.rules.credentials import basic
from pipcache.rules.errors import ConfigError
from pipcache.rules.kinds import Kind


def from_variable(name: str, environ: Mapping[str, str], kind: Kind) -> str:
    """The secret in an environment variable.

    Raises:
        ConfigError: it is not set, or no such secret; the operator's fault.
    """
    text = environ.get(name, "")
    if not text:
        raise ConfigError(
            f"the environment has no variable {name}, or it is empty; allowed: one that holds {kind.noun}"
        )
    return _checked(text, f"the variable {name}", kind)


def from_file(path: str, kind: Kind) -> str:
    """The secret in a file, without the end of its line.

    Raises:
        ConfigError: the file cannot be read, or holds no such secret; the operator's fault.
    """
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            text = file.read().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); allowed: a file with {kind.noun}") from None
    except ValueError:
        raise ConfigError(f"{path} is no text in UTF-8; allowed: a file with {kind.noun}") from None
    if not text:
        raise ConfigError(f"{path} is empty; allowed: a file with {kind.noun}")
    return _checked(text, path, kind)


def _checked(text: str, where: str, kind: Kind) -> str:
    try:
        return str(kind.read(text, is_text=True))
    except ValueError:
        raise ConfigError(f"{where} does not hold {kind.noun}; allowed: {kind.allowed}") from None


class Logins:
    """What netrc says: the file that `NETRC` names, or `.netrc` or `_netrc` in the home, as pip and uv read it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read it.

        Raises:
            ConfigError: there is none, it cannot be read, or it is not in netrc's form; the operator's fault.
        """
        usual = [os.path.expanduser(each) for each in ("~/.netrc", "~/_netrc")]
        named = environ.get("NETRC")
        self.path = os.path.expanduser(named) if named else next(filter(os.path.exists, usual), usual[0])
        try:
            self._netrc = netrc.netrc(self.path)
        except netrc.NetrcParseError as error:  # whose text repeats words of the file
            line = f", line {error.lineno}" if error.lineno else ""
            raise ConfigError(f"{self.path}{line}: not in netrc's form; allowed: machine, login, password") from None
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read ({error.strerror}); allowed: a netrc file") from None
        except ValueError:
            raise ConfigError(f"{self.path} is no text in UTF-8; allowed: a netrc file") from None

    def authorization(self, host: str) -> str:
        """The value of the Authorization field for a host: its own entry, else the file's default.

        Raises:
            ConfigError: there is neither; the operator's fault.
        """
        found = self._netrc.authenticators(host)
        if found is None:
            raise ConfigError(f"{self.path} has no entry for {host}; allowed: machine {host}, or default")
        login, account, password = found
        return basic(login or account or "", password or "")
