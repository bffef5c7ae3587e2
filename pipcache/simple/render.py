"""The pages that clients get, written from the model: HTML.

Reading order: PEP 503, then the attributes of PEP 592, 658, 714 and 740.

Attributes that an installer may read are passed on as upstream has them: every `data-*`, known or not, `rel`,
`title`, `class` and `id`. All others are dropped: none of them means anything to an installer, and those that
a browser obeys (`onclick`, `style`) would let an upstream act in this proxy's name. What upstream wrote never
becomes markup here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

from pipcache.simple.model import Attributes, DistributionFile, ProjectList, ProjectPage
from pipcache.simple.rewrite import relative_href

_PASSED_ON = re.compile(r"(?:data-[^\s\x00-\x1f\x7f\"'<>/=]+|rel|title|class|id)")
_SPECIAL = re.compile(r"[&<>\"'\r]")
_VERSION = "pypi:repository-version"


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
    return _document(page.metas, title, links, page.comments)


def render_list_html(project_list: ProjectList) -> bytes:
    """An index's list of projects in HTML, each a link to `<normalised>/`; the whole document in UTF-8."""
    links = (f'<a href="{name}/">{_escaped(text)}</a><br/>\n' for name, text in project_list.names)
    return _document(project_list.metas, "Simple index", links, ())


def _document(metas: tuple[tuple[str, str], ...], title: str, links: Iterable[str], comments: tuple[str, ...]) -> bytes:
    if not any(name.lower() == _VERSION for name, _ in metas):
        metas = ((_VERSION, "1.0"), *metas)
    head = "".join(f'<meta name="{_escaped(name)}" content="{_escaped(content)}">\n' for name, content in metas)
    title = _escaped(title)
    # Whatever ends a comment has a `>` in it.
    tail = "".join(f"<!--{comment.replace('>', '&gt;')}-->\n" for comment in comments)
    begin = (
        f'<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n{head}<title>{title}</title>\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n"
    )
    # Into one buffer as it is written: joined as text and encoded then, a large page would be in memory four times.
    document = bytearray(begin.encode())
    for link in links:
        document += link.encode()
    document += f"</body>\n</html>\n{tail}".encode()
    return bytes(document)


def _anchor(href: str, file: DistributionFile) -> str:
    fragment = f"#{file.fragment}" if file.fragment else ""
    text = _escaped(file.text or file.filename)
    return f'<a href="{_escaped(href + fragment)}"{_attributes(file.attributes)}>{text}</a><br/>\n'


def _attributes(attributes: Attributes) -> str:
    return "".join(
        f" {name}" if value is None else f' {name}="{_escaped(value)}"'
        for name, value in attributes
        if _PASSED_ON.fullmatch(name)
    )


def _escaped(text: str) -> str:
    """Text that stays text wherever it is put: between tags or between quotes."""
    return escape(text).replace("\r", "&#13;") if _SPECIAL.search(text) else text
