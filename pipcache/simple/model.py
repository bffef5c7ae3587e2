"""What an index says about a project, as values that belong to no dialect.

Essential reading, in order: PEP 503 (the simple API), PEP 592 (yanked files), PEP 629 (its version), PEP 658
and PEP 714 (core metadata), PEP 691 (JSON), PEP 700 (versions, size, upload time), PEP 708 (tracks, alternate
locations), PEP 740 (provenance), PEP 792 (status of a project).

Nothing here knows how a page is written or where its links lead in this proxy. Facts that HTML carries as
attributes and JSON as keys are kept in HTML's names, in upstream's order, also where their meaning is
unknown: what is not understood is passed on.
"""

from __future__ import annotations

from attrs import frozen

from pipcache.simple.digests import hashes_in

Attributes = tuple[tuple[str, str | None], ...]
"""Names in lower case and values without entities, in order, no name twice; None is an attribute without a
value."""


@frozen
class Link:
    """An anchor of a page, before anybody has asked where it leads.

    PEP 503: "each anchor element MUST have an href attribute"; `href` is that, with entities resolved and
    nothing else done to it. `attributes` are the others.
    """

    href: str
    text: str
    attributes: Attributes = ()


@frozen
class DistributionFile:
    """One file of a project, and where upstream has it.

    PEP 503: "The text of the anchor tag MUST match the final path component (the filename) of the URL." Not
    all do, so `filename` is the decoded final path component and `text` is kept as it is. `url` is absolute
    and fit to be asked for, with its query and without its fragment.
    """

    filename: str
    url: str
    fragment: str = ""
    text: str = ""
    attributes: Attributes = ()

    @property
    def hashes(self) -> dict[str, str]:
        """The digests of the file by name; empty where none that is known and well-formed is given.

        PEP 503: "The URL SHOULD include a hash in the form of a URL fragment".
        """
        return hashes_in(self.fragment)

    @property
    def metadata_hashes(self) -> dict[str, str] | None:
        """The digests of the file's core metadata by name; None where upstream offers no core metadata.

        PEP 658: the attribute holds a hash "or `true` if hash is unavailable", which is the empty mapping
        here. What an installer would take for an offer is one: a malformed value too. PEP 714:
        `data-core-metadata` rules where both names are given.
        """
        values = dict(self.attributes)
        for name in ("data-core-metadata", "data-dist-info-metadata"):
            value = values.get(name)
            if value is not None:
                return None if value.strip().lower() == "false" else hashes_in(value.strip())
        return None


@frozen
class ProjectPage:
    """One project's page: facts about the project, and its files in upstream's order.

    `metas` are the names and contents of the `pypi:*` meta elements (PEP 629, 708, 792), in order. `comments`
    are kept for the serial that mirrors compare.
    """

    metas: tuple[tuple[str, str], ...] = ()
    title: str | None = None
    comments: tuple[str, ...] = ()
    files: tuple[DistributionFile, ...] = ()


@frozen
class ProjectList:
    """The projects of an index: `names` are pairs of a normalised name and the name as the index shows it.

    No normalised name comes twice.
    """

    metas: tuple[tuple[str, str], ...] = ()
    names: tuple[tuple[str, str], ...] = ()
