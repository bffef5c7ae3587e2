"""How upstreams are reached and who we are there: from settings, environment and files to sites.

Everything is read when a ``Reach`` is made, at start, so that what is wrong is said then, in one line. Certificates come
from, the first that is set: the upstream's `ca_file`, pip's (for pip's index), `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`, the
system. The proxy is the environment's, but for pip's index pip's own where it has one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from attrs import evolve, field, frozen

from pipcache.edges.certificates import Certificates
from pipcache.edges.pip_index import PipIndex
from pipcache.edges.secrets import Logins, from_file, from_variable
from pipcache.rules import kinds
from pipcache.rules.credentials import basic, bearer
from pipcache.rules.errors import ConfigError
from pipcache.rules.proxies import Proxies
from pipcache.rules.settings import Auth, Upstream, UpstreamSettings
from pipcache.rules.sites import UpstreamSite
from pipcache.service.assemble import as_set_up, site_of

T = TypeVar("T")
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@frozen
class _Means:
    """What one upstream's own settings come to, whatever its address is."""

    path: str
    ca_file: str | None
    client_cert: str | None
    authorization: str | None = field(repr=False)
    logins: Logins | None


class Reach:
    """Makes sites of upstreams."""

    def __init__(self, upstreams: UpstreamSettings, environ: Mapping[str, str], certificates: Certificates) -> None:
        """Read what settings and environment name.

        Raises:
            ConfigError: something in it is of no use; the operator's fault.
        """
        self._environ = environ
        self._certificates = certificates
        self._proxies = Proxies.from_environment(environ)
        variable = next((name for name in _CA_VARIABLES if environ.get(name)), None)
        self._ca_file = variable and self._authorities(variable, environ[variable])
        self._means = {upstream.name: self._read(path, upstream) for path, upstream in upstreams.by_path}
        self._sites = {
            upstream.name: self._at(site_of(upstream), self._means[upstream.name])
            for upstream in upstreams.in_order
            if not upstream.is_pip
        }

    def site(self, upstream: Upstream) -> UpstreamSite:
        """The site of an upstream that has an address of its own."""
        return self._sites[upstream.name]

    def site_of_pip(self, upstream: Upstream, found: PipIndex) -> UpstreamSite:
        """The site of an upstream that stands for pip's index.

        Raises:
            ConfigError: what pip is set up with is of no use here, or netrc does not know its host.
        """
        means = self._means[upstream.name]
        ca_file = means.ca_file or (found.cert and self._authorities("the cert of pip's configuration", found.cert))
        site = UpstreamSite.from_index(upstream.name, found.index_url, proxy=found.proxy)
        return self._at(as_set_up(site, upstream), evolve(means, ca_file=ca_file))

    def _at(self, site: UpstreamSite, means: _Means) -> UpstreamSite:
        logins, host = means.logins, site.origin.host
        authorization = _named(f"{means.path}.auth.netrc", lambda: logins and logins.authorization(host))
        return evolve(
            site,
            authorization=authorization or means.authorization or site.authorization,
            ca_file=means.ca_file or self._ca_file,
            client_cert=means.client_cert,
            proxies=self._proxies if site.proxies == Proxies() else site.proxies,
        )

    def _read(self, path: str, upstream: Upstream) -> _Means:
        ca_file = upstream.ca_file and self._authorities(f"{path}.ca_file", upstream.ca_file)
        client_cert = upstream.client_cert and os.path.expanduser(upstream.client_cert)
        if client_cert:
            _named(f"{path}.client_cert", lambda: self._certificates.identity(client_cert))
        netrc = upstream.auth.netrc
        logins = _named(f"{path}.auth.netrc", lambda: Logins(self._environ)) if netrc else None
        return _Means(path, ca_file, client_cert, self._authorization(f"{path}.auth", upstream.auth), logins)

    def _authorization(self, path: str, auth: Auth) -> str | None:
        if auth.username is not None:
            how = (auth.password, auth.password_env, auth.password_file)
            return basic(auth.username, self._secret(f"{path}.password", kinds.PASSWORD, *how) or "")
        token = self._secret(f"{path}.token", kinds.TOKEN, auth.token, auth.token_env, auth.token_file)
        return None if token is None else bearer(token)

    def _secret(
        self, path: str, kind: kinds.Kind, plain: str | None, variable: str | None, file: str | None
    ) -> str | None:
        if variable is not None:
            return _named(f"{path}_env", lambda: from_variable(variable, self._environ, kind))
        if file is not None:
            return _named(f"{path}_file", lambda: from_file(file, kind))
        return plain

    def _authorities(self, where: str, path: str) -> str:
        """The path as it is opened, once it turned out to be one of certificates."""
        path = os.path.expanduser(path)
        _named(where, lambda: self._certificates.authorities(path))
        return path


def _named(where: str, read: Callable[[], T]) -> T:
    """What ``read`` returns; its error says where the operator wrote what is wrong."""
    try:
        return read()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
