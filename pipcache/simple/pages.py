"""From what upstream sent to what clients get: a page parsed, rewritten and rendered, in one pure step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from attrs import field, frozen

from pipcache.simple.model import DistributionFile
from pipcache.simple.parse import parse_project_list, parse_project_page
from pipcache.simple.render import render_list_html, render_project_html
from pipcache.simple.rewrite import files_by_path


@frozen
class FormedPage:
    """A page as clients get it, and the files it names by our own path.

    ``SHAPE`` is changed whenever the same bytes from upstream would be rendered differently: kept renderings of another
    shape are then made again.
    """

    SHAPE: ClassVar[str] = "1"

    html: bytes
    files: Mapping[str, DistributionFile] = field(factory=dict)


def form_page(content: bytes, url: str, charset: str | None, project: str, upstream_root: str | None) -> FormedPage:
    """Form a project page.

    Args:
        content: as upstream sent it, after content-decoding.
        url: where it was found, which its links are relative to.
        charset: of its Content-Type, None where that names none.
        project: normalised.
        upstream_root: of the upstream that sent it, see ``rewrite.local_path``.

    Raises:
        MalformedResponse: it is no simple page.
    """
    page = parse_project_page(content, url, charset)
    files = files_by_path(page, project, upstream_root)
    return FormedPage(render_project_html(page, project, files), files)


def form_list(content: bytes, charset: str | None) -> FormedPage:
    """Form the project list; as ``form_page``."""
    return FormedPage(render_list_html(parse_project_list(content, charset)))
