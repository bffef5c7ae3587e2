"""What the simulated index holds: projects, their pages, and the one right content of every path.

Made once, the same for every seed. There is something of each kind: files with a SHA-256, with a SHA-512, without a digest,
on another host, with core metadata, of a project without a page, too big to keep, and what is no file at all.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b, new, sha256
from random import Random

from attrs import define, field, frozen

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.key import CacheKey
from pipcache.rules.negotiation import Dialect
from pipcache.rules.routes import Route, parse_target
from pipcache.rules.sites import UpstreamSite
from pipcache.simple.pages import form_page
from pipcache.simple.rewrite import local_path

FILE_HOST = "http://files.test"
SITES = (
    UpstreamSite.from_root("one", "http://one.test"),
    UpstreamSite.from_root("two", "http://two.test", "/pypi"),
    UpstreamSite.from_root("three", "http://three.test"),
)
_SIZES = (0, 1, 40, 700, 2_500, 5_000, 9_000, 14_000)
_LARGE_SIZES = (60_000, 95_000, 130_000, 300_000)


@frozen
class TrueFile:
    """A file: where it is with us, its content, what the page says of it, and its address where the page gives it whole."""

    path: str
    content: bytes
    digest_name: str | None
    link: str

    @property
    def digest(self) -> str | None:
        """The hex digits that the page promises."""
        return new(self.digest_name, self.content).hexdigest() if self.digest_name else None


@define
class Truth:
    """All contents by our path, by URL path at the file host, and the digests that pages promise."""

    contents: dict[str, bytes] = field(factory=dict)
    at_file_host: dict[str, str] = field(factory=dict)
    digests: dict[str, str] = field(factory=dict)
    projects: dict[str, list[TrueFile]] = field(factory=dict)
    with_metadata: set[str] = field(factory=set)
    others: list[str] = field(factory=list)

    def add_project(self, name: str, kind: int, contents: list[bytes]) -> None:
        """Add a project; ``kind`` says how its files are named and promised."""
        files = self.projects[name] = []
        for number, content in enumerate(contents):
            filename = f"{name}-{number}.0.tar.gz"
            hexed = blake2b(content + filename.encode(), digest_size=32).hexdigest()
            path = f"/packages/{hexed[:2]}/{hexed[2:4]}/{hexed[4:]}/{filename}"
            link = f"../..{path}"
            if kind == 3:
                link = f"{FILE_HOST}/d/{filename}"
                path = local_path(link, name, None) or ""
                self.at_file_host[f"/d/{filename}"] = path
            file = TrueFile(path, content, (None if kind == 2 else "sha512" if kind == 1 else "sha256"), link)
            files.append(file)
            self.contents[path] = content
            if file.digest is not None:
                self.digests[path] = file.digest
            if kind == 0 and number == 0:
                metadata = f"Metadata-Version: 2.1\nName: {name}\n".encode() * 9
                self.with_metadata.add(path)
                self.contents[f"{path}.metadata"] = metadata
                self.digests[f"{path}.metadata"] = sha256(metadata).hexdigest()

    def page(self, project: str, is_lagging: bool) -> bytes | None:
        """The page of a project, None where there is none; a lagging one lacks the newest file."""
        return _page(self, project, is_lagging)

    __hash__ = object.__hash__


@lru_cache(None)
def _page(truth: Truth, project: str, is_lagging: bool) -> bytes | None:
    files = truth.projects.get(project)
    if files is None:
        return None
    links = []
    for file in files[: -1 if is_lagging else None]:
        fragment = f"#{file.digest_name}={file.digest}" if file.digest_name else ""
        metadata = truth.digests.get(f"{file.path}.metadata")
        extra = f' data-core-metadata="sha256={metadata}"' if metadata else ""
        links.append(f'<a href="{file.link}{fragment}"{extra}>{file.link.rpartition("/")[2]}</a><br>')
    return ('<html><meta name="pypi:repository-version" content="1.0">' + "\n".join(links)).encode()


def make_truth() -> Truth:
    """The index that all seeds share."""
    random = Random(7)
    truth = Truth()
    sizes = [*_SIZES] * 3 + [*_LARGE_SIZES]
    random.shuffle(sizes)
    for number in range(8):
        contents = [random.randbytes(sizes.pop()) for _ in range(3)]
        truth.add_project(f"p{number}", number % 4, contents)
    for size in sizes[:3]:  # a project without a page, its paths say what its files are
        content = random.randbytes(size)
        hexed = blake2b(content, digest_size=32).hexdigest()
        truth.contents[f"/packages/{hexed[:2]}/{hexed[2:4]}/{hexed[4:]}/ghost-{size}.zip"] = content
    for number, size in enumerate((20, 4_000, 11_000)):
        path = f"/pypi/p{number}/raw"
        truth.contents[path] = random.randbytes(size)
        truth.others.append(path)
    return truth


TRUTH = make_truth()


@lru_cache(None)
def route_of(path: str) -> Route:
    """The route of one of our paths."""
    return parse_target(path.encode())


@lru_cache(None)
def key_of_path(path: str) -> CacheKey:
    """Its key."""
    return CacheKey.of(route_of(path))


def page_path(project: str) -> str:
    """Our path of a project's page."""
    return f"/simple/{project}/"


@lru_cache(None)
def rendered(project: str, content: bytes, site: UpstreamSite) -> bytes:
    """A page as clients must get it, when this upstream sent this; where that is no page it is nothing that comes."""
    try:
        formed = form_page(content, None, site.page_url(page_path(project)), project, site.root)
        return formed.render(Dialect.HTML)
    except MalformedResponse:
        return b"no page"


ALL_PATHS = (*(page_path(name) for name in (*TRUTH.projects, "ghost")), *TRUTH.contents)
