"""A package index made by the test: real wheels and sdists, and the pages that list them.

The pages are those of PEP 503 with the attributes of PEP 592, 658 and 714, or those of PEP 691 and 700, and the
files lie where the public index puts them: `/packages/<2>/<2>/<60 hex digits of the BLAKE2b-256>/<filename>`. The
same index can be installed into a `FakeUpstream` or written to a folder for `tests.fakes.serve_index`. All of it is
reproducible: no clock, and padding from a seed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import random
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from attrs import Factory, define, field, frozen

from tests.fakes.upstream import FakeUpstream

Dialect = Literal["html", "json"]
_PAGE_TYPES: dict[Dialect, str] = {"html": "text/html; charset=utf-8", "json": "application/vnd.pypi.simple.v1+json"}
_WHEEL = b"Wheel-Version: 1.0\nGenerator: pipcache-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_BACKEND = '''"""A build backend that needs nothing: the wheel lies ready in the source tree."""
import pathlib
import shutil

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    wheel = next(pathlib.Path("prebuilt").glob("*.whl"))
    shutil.copy(wheel, wheel_directory)
    return wheel.name
'''


def normalise(name: str) -> str:
    """Write a project's name as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def metadata_of(name: str, version: str, requires: Sequence[str] = (), python: str | None = None) -> bytes:
    """Write the core metadata of a distribution."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {python}"] if python else []
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return "\n".join([*lines, ""]).encode()


def build_wheel(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    size_bytes: int = 0,
    python_requires: str | None = None,
) -> tuple[str, bytes]:
    """Build a pure Python wheel that installs a package saying its `__version__`.

    Args:
        name: the project's name.
        version: a PEP 440 version.
        requires: PEP 508 requirements.
        size_bytes: so many bytes of padding that does not compress, the same for the same name and version.
        python_requires: a version specifier; None when any Python will do.

    Returns:
        The wheel's file name and its bytes.
    """
    package = normalise(name).replace("-", "_")
    info = f"{package}-{version}.dist-info"
    files = {
        f"{package}/__init__.py": f'__version__ = "{version}"\n'.encode(),
        f"{info}/METADATA": metadata_of(name, version, requires, python_requires),
        f"{info}/WHEEL": _WHEEL,
    }
    if size_bytes:
        files[f"{package}/padding.bin"] = random.Random(f"{name} {version}").randbytes(size_bytes)
    record = [f"{path},sha256={_record_hash(data)},{len(data)}\n" for path, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as wheel:
        for path, data in files.items():
            wheel.writestr(zipfile.ZipInfo(path), data)
    return f"{package}-{version}-py3-none-any.whl", packed.getvalue()


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def build_sdist(name: str, version: str, requires: Sequence[str] = ()) -> tuple[str, bytes]:
    """Build a source distribution that installers can build without a build dependency.

    Returns:
        The sdist's file name and its bytes.
    """
    base = f"{normalise(name).replace('-', '_')}-{version}"
    wheel_name, wheel = build_wheel(name, version, requires)
    files = {
        "PKG-INFO": metadata_of(name, version, requires),
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": _BACKEND.encode(),
        f"prebuilt/{wheel_name}": wheel,
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as sdist:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{base}/{path}")
            member.size = len(data)
            sdist.addfile(member, io.BytesIO(data))
    return f"{base}.tar.gz", gzip.compress(packed.getvalue(), mtime=0)


@frozen
class IndexedFile:
    """One distribution file of the index.

    `metadata` is what lies beside it as `.metadata`, None for nothing; `yanked` is the reason, maybe empty;
    `uploaded` is the time as PEP 700 writes it, None where the index does not tell it.
    """

    project: str
    filename: str
    data: bytes = field(repr=False)
    metadata: bytes | None = field(default=None, repr=False)
    python_requires: str | None = None
    yanked: str | None = None
    uploaded: str | None = None

    @property
    def version(self) -> str:
        """The version that the filename says."""
        return re.sub(r"(-py3-none-any\.whl|\.tar\.gz)$", "", self.filename).split("-")[1]

    @property
    def sha256(self) -> str:
        """The digest that pages and lock files name, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def path(self) -> str:
        """Where the file lies below an index's root, as a URL spells it."""
        digest = hashlib.blake2b(self.data, digest_size=32).hexdigest()
        return f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{quote(self.filename)}"

    def anchor(self, base: str) -> str:
        """Render the line of a project page; `base` is what stands before `/packages`."""
        attributes = {"href": f"{base}{self.path}#sha256={self.sha256}"}
        if self.python_requires is not None:
            attributes["data-requires-python"] = self.python_requires
        if self.metadata is not None:
            digest = f"sha256={hashlib.sha256(self.metadata).hexdigest()}"
            attributes |= {"data-dist-info-metadata": digest, "data-core-metadata": digest}
        if self.yanked is not None:
            attributes["data-yanked"] = self.yanked
        if self.uploaded is not None:
            attributes["data-upload-time"] = self.uploaded
        text = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
        return f"<a {text}>{html.escape(self.filename)}</a><br/>"

    def entry(self, base: str) -> dict[str, Any]:
        """Say the same as JSON does; `base` as for `anchor`."""
        url = f"{base}{self.path}"
        entry: dict[str, Any] = {"filename": self.filename, "url": url, "hashes": {"sha256": self.sha256}}
        entry["size"] = len(self.data)
        entry["yanked"] = self.yanked is not None and (self.yanked or True)
        if self.python_requires is not None:
            entry["requires-python"] = self.python_requires
        if self.metadata is not None:
            entry["core-metadata"] = {"sha256": hashlib.sha256(self.metadata).hexdigest()}
        if self.uploaded is not None:
            entry["upload-time"] = self.uploaded
        return entry


@define
class Index:
    """Projects and their files, to be served; adding returns what was added."""

    files: list[IndexedFile] = Factory(list)

    def add_wheel(
        self,
        name: str,
        version: str,
        requires: Sequence[str] = (),
        size_bytes: int = 0,
        python_requires: str | None = None,
        *,
        has_metadata: bool = True,
        yanked: str | None = None,
        uploaded: str | None = None,
    ) -> IndexedFile:
        """Build a wheel, see `build_wheel`, and list it, with its core metadata beside it."""
        filename, data = build_wheel(name, version, requires, size_bytes, python_requires)
        metadata = metadata_of(name, version, requires, python_requires) if has_metadata else None
        return self.add(IndexedFile(name, filename, data, metadata, python_requires, yanked, uploaded))

    def add_sdist(self, name: str, version: str, requires: Sequence[str] = ()) -> IndexedFile:
        """Build a source distribution, see `build_sdist`, and list it; no metadata lies beside it."""
        return self.add(IndexedFile(name, *build_sdist(name, version, requires)))

    def add(self, file: IndexedFile) -> IndexedFile:
        """List any file."""
        self.files.append(file)
        return file

    def resources(
        self, *, prefix: str = "", files_url: str | None = None, dialect: Dialect = "html"
    ) -> Iterator[tuple[str, str, bytes]]:
        """Render everything the index serves.

        Args:
            prefix: what stands before `/simple` and `/packages` in every path, as `/pypi`.
            files_url: another server's address, for absolute links to it; None: relative links. The files are
                among the resources either way, without the prefix where links lead to another server.
            dialect: what all the pages are written in.

        Returns:
            Path, content type and bytes of each resource; the path of a page ends with a slash.
        """
        projects = sorted({normalise(each.project) for each in self.files})
        yield f"{prefix}/simple/", _PAGE_TYPES[dialect], _list_page(projects, prefix, dialect)
        for name in projects:
            files = [each for each in self.files if normalise(each.project) == name]
            page = _project_page(name, files, "../.." if files_url is None else files_url, dialect)
            yield f"{prefix}/simple/{name}/", _PAGE_TYPES[dialect], page
        for each in self.files:
            path = f"{prefix if files_url is None else ''}{each.path}"
            yield path, "application/octet-stream", each.data
            if each.metadata is not None:
                yield f"{path}.metadata", "application/octet-stream", each.metadata

    def install_into(
        self, upstream: FakeUpstream, *, prefix: str = "", files_upstream: FakeUpstream | None = None
    ) -> None:
        """Serve the index from a fake upstream, with strong validators, and with ranges on its files.

        Args:
            upstream: gets the pages, and the files where no other upstream does.
            prefix: see `resources`.
            files_upstream: a started upstream that gets the files; the pages link to it absolutely.
        """
        files_url = None if files_upstream is None else files_upstream.url
        for path, content_type, data in self.resources(prefix=prefix, files_url=files_url):
            is_page = path.endswith("/")
            server = upstream if is_page or files_upstream is None else files_upstream
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            for spelling in {path, path.replace("%2B", "+")}:
                server.add(spelling, data, content_type=content_type, etag=etag, ranges=not is_page)

    def write_to(
        self, folder: Path, *, prefix: str = "", files_url: str | None = None, dialect: Dialect = "html"
    ) -> None:
        """Write the index into a folder; pages become `index.html` or `index.json` of their own folder."""
        for path, _, data in self.resources(prefix=prefix, files_url=files_url, dialect=dialect):
            name = f"{path}index.{dialect}" if path.endswith("/") else path.replace("%2B", "+")
            target = folder / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def requirements(self) -> str:
        """Write a requirements file that pins every file of the index by its hash, for `--require-hashes`."""
        pins: dict[str, list[str]] = {}
        for each in self.files:
            pins.setdefault(f"{normalise(each.project)}=={each.version}", []).append(f"--hash=sha256:{each.sha256}")
        return "".join(f"{pin} {' '.join(hashes)}\n" for pin, hashes in pins.items())


def _list_page(projects: Sequence[str], prefix: str, dialect: Dialect) -> bytes:
    if dialect == "json":
        return _document(projects=[{"name": name} for name in projects])
    return _page("Simple index", [f'<a href="{prefix}/simple/{name}/">{name}</a><br/>' for name in projects])


def _project_page(name: str, files: Sequence[IndexedFile], base: str, dialect: Dialect) -> bytes:
    if dialect == "json":
        versions = sorted({each.version for each in files})
        return _document(name=name, versions=versions, files=[each.entry(base) for each in files])
    return _page(f"Links for {name}", [each.anchor(base) for each in files])


def _document(**facts: Any) -> bytes:
    return json.dumps({"meta": {"api-version": "1.1"}, **facts}).encode()


def _page(title: str, lines: Sequence[str]) -> bytes:
    head = f'<meta name="pypi:repository-version" content="1.1">\n<title>{title}</title>'
    body = "\n".join([f"<h1>{title}</h1>", *lines])
    return f"<!DOCTYPE html>\n<html>\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n".encode()
