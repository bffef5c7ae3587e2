"""The resources: what answers each kind of route."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any

from attrs import frozen
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from pipcache.engine.cache import Cache
from pipcache.engine.interfaces import Clock, Events
from pipcache.engine.outcome import Outcome
from pipcache.engine.outcome import Request as CacheRequest
from pipcache.rules.fields import Fields
from pipcache.rules.routes import Route
from pipcache.web.hot import HotResponses
from pipcache.web.refusals import Refusal
from pipcache.web.rendering import answer, send_bytes, send_text, wire_name

_READ_FIELDS = {
    wire_name(name): name
    for name in (
        "accept",
        "accept-encoding",
        "cache-control",
        "pragma",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
    )
}
"""The client's fields that we act on, beside Via, by Twisted's spelling; none of these but Range ever goes upstream."""


class Leaf(Resource):
    """A resource without children that answers GET and HEAD alike; the wire keeps the body of a HEAD back."""

    isLeaf = True

    def render_HEAD(self, request: Request) -> int:
        """As GET; the body is not sent."""
        return self.render_GET(request)

    def render_GET(self, request: Request) -> int:
        """Answer."""
        raise NotImplementedError


class Sentence(Leaf):
    """A status with one plain sentence."""

    def __init__(self, status: int, text: str, fields: Fields = ()) -> None:
        super().__init__()
        self._status = status
        self._text = text
        self._fields = fields

    def render(self, request: Request) -> int:
        """The sentence, whatever the method."""
        send_text(request, self._status, self._text, self._fields)
        return NOT_DONE_YET

    render_GET = render


class Refused(Sentence):
    """A request that is not answered; its connection ends, so nothing that came with it is taken for another."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status, refusal.text, (*refusal.fields, ("connection", "close")))

    def render(self, request: Request) -> int:
        """The refusal, whatever the method."""
        request.channel.persistent = 0
        return super().render(request)


class Cached(Leaf):
    """Pages, files and all else that comes from upstreams."""

    def __init__(
        self,
        route: Route,
        via: tuple[str, ...],
        cache: Cache,
        hot: HotResponses,
        clock: Clock,
        events: Events,
    ) -> None:
        super().__init__()
        self._route = route
        self._via = via
        self._cache = cache
        self._hot = hot
        self._clock = clock
        self._events = events

    def render_GET(self, request: Request) -> int:
        """What the cache comes to."""
        fields = tuple(
            (_READ_FIELDS[name], value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            if name in _READ_FIELDS
            for value in values
        )
        asked = CacheRequest(self._route, request.method.decode("latin-1"), fields, self._via)
        return answer(request, self._respond(request, asked), self._clock, self._events)

    async def _respond(self, request: Request, asked: CacheRequest) -> Outcome:
        outcome = await self._cache.respond(asked)
        if outcome.repeat is not None:
            accept = request.requestHeaders.getRawHeaders(b"accept", [])
            encoding = request.requestHeaders.getRawHeaders(b"accept-encoding", [])
            if len(accept) <= 1 and len(encoding) <= 1:
                accepts = (accept[0] if accept else None, encoding[0] if encoding else None)
                self._hot.enter(request.uri, accepts, outcome.repeat)
        return outcome


class Redirect(Leaf):
    """Another spelling of a page's address, answered with where it is; relative, so any prefix before us holds."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self._location = location

    def render_GET(self, request: Request) -> int:
        """The location."""
        send_text(request, 301, f"This page is at {self._location}", (("location", self._location),))
        return NOT_DONE_YET


class Favicon(Leaf):
    """Nothing, for browsers that ask."""

    def render_GET(self, request: Request) -> int:
        """No content."""
        request.setResponseCode(204)
        request.responseHeaders.removeHeader(b"content-type")
        request.finish()
        return NOT_DONE_YET


class Health(Leaf):
    """What the server is doing, as JSON; for people and for those who watch it by machine."""

    def __init__(self, report: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._report = report

    def render_GET(self, request: Request) -> int:
        """The report."""
        body = json.dumps(self._report(), indent=2).encode() + b"\n"
        send_bytes(request, 200, body, "application/json")
        return NOT_DONE_YET


@frozen
class _Recipe:
    client: str
    text: str


class Help(Leaf):
    """How to point installers at the address that the page was asked under."""

    def render_GET(self, request: Request) -> int:
        """The page."""
        send_bytes(request, 200, _help_page(*_address(request)).encode(), "text/html; charset=utf-8")
        return NOT_DONE_YET


def _address(request: Request) -> tuple[str, str]:
    """The scheme and ``host:port`` that the client used, as far as it, or a reverse proxy before us, says."""
    forwarded = request.requestHeaders.getRawHeaders(b"x-forwarded-proto", [])
    scheme = "https" if request.isSecure() or forwarded == [b"https"] else "http"
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if hosts and hosts[0]:
        return scheme, hosts[0].decode("latin-1")
    here = request.getHost()
    return scheme, f"{getattr(here, 'host', 'localhost')}:{getattr(here, 'port', 8080)}"


def _help_page(scheme: str, authority: str) -> str:
    index = f"{scheme}://{authority}/simple/"
    host = authority.rpartition(":")[0] if ":" in authority.rpartition("]")[2] else authority
    # pip trusts the machine it runs on, and whoever shows a certificate
    wants_trust = scheme == "http" and not host.strip("[]").startswith(_LOOPBACK)
    trusted_option = f" --trusted-host {host}" if wants_trust else ""
    trusted_line = f"\ntrusted-host = {host}" if wants_trust else ""
    recipes = (
        _Recipe("pip, once", f"pip install --index-url {index}{trusted_option} flask"),
        _Recipe("pip, always (pip.conf)", f"[global]\nindex-url = {index}{trusted_line}"),
        _Recipe("uv, once", f"uv pip install --default-index {index} flask"),
        _Recipe("uv, always (pyproject.toml)", f'[[tool.uv.index]]\nurl = "{index}"\ndefault = true'),
        _Recipe("Poetry", f"poetry source add --priority=primary pipcache {index}"),
        _Recipe("PDM", f"pdm config pypi.url {index}"),
    )
    shown = "\n".join(f"<h2>{escape(recipe.client)}</h2>\n<pre>{escape(recipe.text)}</pre>" for recipe in recipes)
    return _HELP.format(recipes=shown)


_LOOPBACK = ("localhost", "127.", "::1")

_HELP = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pipcache</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24;
  background: #fff; }}
h1 {{ margin-bottom: 0; }}
h2 {{ font-size: 1rem; margin: 1.5rem 0 .3rem; }}
pre {{ background: #f3f4f6; border: 1px solid #d8dce1; border-radius: 6px; padding: .6rem .8rem; margin: 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }}
a {{ color: #0b5cad; }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e6e8eb; background: #16191d; }}
  pre {{ background: #20252b; border-color: #39414a; }}
  a {{ color: #7db7f0; }}
}}
</style>
</head>
<body>
<h1>pipcache</h1>
<p>A caching proxy for Python packages. Point your installer here, and what it downloads is downloaded once.</p>
{recipes}
<p>See <a href="health">what this server is doing</a>.</p>
</body>
</html>
"""
