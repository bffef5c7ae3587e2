"""The project pages that clients get, written from the model: HTML.

Reading order: PEP 503, then the attributes of PEP 592, 658, 714 and 740.

What JSON alone can say is not in it: keys that nobody knows, versions without files, the second digest of a file, and size
and upload time, which no PEP has given a name in HTML: with them each page would be a seventh larger, for installers that
ask for JSON where they want to know. An upstream's own `data-size` and `data-upload-time` are passed on.

Attributes that an installer may read are passed on as upstream has them: every `data-*`, known or not, `rel`,
`title`, `class` and `id`. All others are dropped: none of them means anything to an installer, and those that
a browser obeys (`onclick`, `style`) would let an upstream act in this proxy's name. What upstream wrote never
becomes markup here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

from pipcache.simple.model import (
    DATA_ATTRIBUTE,
    METADATA_ATTRIBUTES,
    VERSION_META,
    DistributionFile,
    ProjectPage,
)
from pipcache.simple.rewrite import relative_href

_PASSED_ON = re.compile(rf"(?:{DATA_ATTRIBUTE.pattern}|rel|title|class|id)")
_KNOWN = frozenset({"data-requires-python", "data-yanked"})
_has_special = re.compile(r"[&<>\"'\r\0]").search


def render_project_html(page: ProjectPage, project: str, files: Mapping[str, DistributionFile]) -> bytes:
    """A project's page in HTML, whose links lead through this proxy.

    Files that share a local path are one link, the first: what a page promises is what its link leads to.

    Args:
        page: what the upstream said.
        project: the normalised name of the page's project.
        files: the page's files by local path, as ``rewrite.files_by_path`` gives them.

    Returns:
        The whole document in UTF-8, the same for equal arguments.
    """
    here = f"/simple/{project}/"
    title = f"Links for {project}" if page.title is None else page.title
    links = (_anchor(relative_href(path, here), file) for path, file in files.items())
    return document(page.metas, title, links, page.comments)


def document(metas: tuple[tuple[str, str], ...], title: str, links: Iterable[str], comments: tuple[str, ...]) -> bytes:
    """A whole document of the simple API in UTF-8: `links` are lines of markup, all else is text."""
    # Into one buffer as it is written: joined as text and encoded then, a large page would be in memory four times.
    written = bytearray(head(metas, title).encode())
    for link in links:
        written += link.encode()
    written += tail(comments).encode()
    return bytes(written)


def head(metas: tuple[tuple[str, str], ...], title: str) -> str:
    """What stands before the links."""
    if not any(name.lower() == VERSION_META for name, _ in metas):
        metas = ((VERSION_META, "1.0"), *metas)
    elements = "".join(f'<meta name="{escaped(name)}" content="{escaped(content)}">\n' for name, content in metas)
    title = escaped(title)
    return (
        f'<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n{elements}<title>{title}</title>\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n"
    )


def tail(comments: tuple[str, ...]) -> str:
    """What stands behind the links."""
    # Whatever ends a comment has a `>` in it.
    return "</body>\n</html>\n" + "".join(f"<!--{comment.replace('>', '&gt;')}-->\n" for comment in comments)


def _anchor(href: str, file: DistributionFile) -> str:
    fragment = f"#{file.fragment}" if file.fragment else ""
    text = escaped(file.text or file.filename)
    return f'<a href="{escaped(href + fragment)}"{_attributes(file)}>{text}</a><br/>\n'


def _attributes(file: DistributionFile) -> str:
    """The attributes that are passed on.

    pip takes any value of those for core metadata for an offer, `false` too, and fails where it is none.
    """
    written = ""
    for name, value in file.attributes:
        if name in METADATA_ATTRIBUTES:
            if file.metadata_offer is None:
                continue
        elif name not in _KNOWN and not _PASSED_ON.fullmatch(name):
            continue
        written += f" {name}" if value is None else f' {name}="{escaped(value)}"'
    return written


def escaped(text: str) -> str:
    """Text that stays text wherever it is put: between tags or between quotes."""
    if not _has_special(text):
        return text
    return escape(text).replace("\r", "&#13;").replace("\0", "\ufffd")
