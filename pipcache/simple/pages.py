"""From what upstream sent to what clients get: a page parsed and rewritten once, rendered once for each dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from pipcache.rules.negotiation import Dialect
from pipcache.simple.model import DistributionFile, ProjectPage
from pipcache.simple.parse import parse_page
from pipcache.simple.render_html import render_project_html
from pipcache.simple.render_json import render_project_json
from pipcache.simple.rewrite import files_by_path


class FormedPage:
    """A page as clients get it, and the files that it names by our own path.

    ``SHAPE`` is changed whenever the same bytes from upstream would be rendered differently: kept renderings of another
    shape are then made again. Rendering a large page takes long, so it is for a thread; it is done once for a dialect.
    """

    SHAPE: ClassVar[str] = "2"

    def __init__(
        self, write: Callable[[Dialect], bytes], files: Mapping[str, DistributionFile], last_serial: int | None
    ) -> None:
        self._write = write
        self._written: dict[Dialect, bytes] = {}
        self.files = files
        self.last_serial = last_serial

    def render(self, dialect: Dialect) -> bytes:
        """The whole page in a dialect, the same whenever it is formed of the same bytes."""
        if dialect not in self._written:
            self._written[dialect] = self._write(dialect)
        return self._written[dialect]


def form_page(
    content: bytes, content_type: str | None, url: str, project: str, upstream_root: str | None
) -> FormedPage:
    """Form a project page.

    Args:
        content: as upstream sent it, after content-decoding.
        content_type: the Content-Type field's value, None where there is none.
        url: where it was found, which its links are relative to.
        project: normalised.
        upstream_root: of the upstream that sent it, see ``rewrite.local_path``.

    Raises:
        MalformedResponse: it is no simple page.
    """
    page = parse_page(content, content_type, url)
    files = files_by_path(page, project, upstream_root)
    return FormedPage(partial(_write, page, project, files), files, page.last_serial)


def _write(page: ProjectPage, project: str, files: Mapping[str, DistributionFile], dialect: Dialect) -> bytes:
    render = render_project_html if dialect is Dialect.HTML else render_project_json
    return render(page, project, files)
