"""Pages as clients get them: everything that upstream said of its files, and none of its markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pipcache.simple.model import Attributes, DistributionFile, ProjectPage
from pipcache.simple.parse_html import parse_html_page
from pipcache.simple.render_html import render_project_html
from pipcache.simple.rewrite import files_by_path

ROOT = "https://mirror.example.org/pypi"
HERE = "https://proxy.example.org/prefix/simple/foo/"


def rendered(page: ProjectPage) -> bytes:
    """The page as clients of the project ``foo`` get it."""
    return render_project_html(page, "foo", files_by_path(page, "foo", ROOT))


def page_of(*attributes: tuple[str, str | None], **fields: str) -> ProjectPage:
    """A page of one file."""
    url = "https://files.example.org/packages/aa/a-1.whl?token=x"
    return ProjectPage(files=(DistributionFile("a-1.whl", url, text="a-1.whl", attributes=attributes, **fields),))


def test_a_page_is_a_document_of_the_simple_api() -> None:
    """A doctype, the version, the title and one anchor a file, whose link is relative and has no query."""
    assert rendered(page_of(("data-requires-python", ">=3.8"), fragment="sha256=ab")) == (
        b'<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n'
        b'<meta name="pypi:repository-version" content="1.0">\n<title>Links for foo</title>\n</head>\n'
        b"<body>\n<h1>Links for foo</h1>\n"
        b'<a href="../../packages/aa/a-1.whl#sha256=ab" data-requires-python="&gt;=3.8">a-1.whl</a><br/>\n'
        b"</body>\n</html>\n"
    )


@pytest.mark.parametrize(
    ("attribute", "written"),
    [
        (("data-requires-python", ">=3.8,<4"), ' data-requires-python="&gt;=3.8,&lt;4"'),
        (("data-yanked", 'it "broke" & burned'), ' data-yanked="it &quot;broke&quot; &amp; burned"'),
        (("data-yanked", ""), ' data-yanked=""'),
        (("data-yanked", None), " data-yanked"),
        (("data-core-metadata", "true"), ' data-core-metadata="true"'),
        (("data-dist-info-metadata", "sha256=ab"), ' data-dist-info-metadata="sha256=ab"'),
        (("data-gpg-sig", "false"), ' data-gpg-sig="false"'),
        (
            ("data-provenance", "https://index.example.org/p"),
            ' data-provenance="https://index.example.org/p"',
        ),
        (("data-upload-time", "2025-01-31T12:00:00Z"), ' data-upload-time="2025-01-31T12:00:00Z"'),
        (("data-size", "12"), ' data-size="12"'),
        (("data-never-heard-of", "x"), ' data-never-heard-of="x"'),
        (("rel", "internal"), ' rel="internal"'),
        (("onclick", "alert(1)"), ""),
        (("style", "x"), ""),
        (("src", "x"), ""),
        (("data-", "x"), ""),
        (('data-x"><script', "x"), ""),
        (("relation", "x"), ""),
    ],
)
def test_attributes_are_passed_on(attribute: tuple[str, str | None], written: str) -> None:
    """Whatever an installer may read, with a value, an empty one or none; nothing that browsers obey."""
    html = rendered(page_of(attribute)).decode()
    assert f'a-1.whl"{written}>a-1.whl</a>' in html


def test_metas_title_and_comments_are_kept() -> None:
    """What upstream says of the project comes in its order, with its version where it has one."""
    metas = (("pypi:project-status", 'x"y'), ("pypi:repository-version", "1.3"))
    html = rendered(ProjectPage(metas, "Foo & co", ("SERIAL 123",))).decode()
    assert '<meta name="pypi:project-status" content="x&quot;y">\n<meta name="pypi:repository-version"' in html
    assert html.count("repository-version") == 1
    assert "<title>Foo &amp; co</title>" in html
    assert "<!--SERIAL 123-->" in html


@pytest.mark.parametrize("comment", ["--><script>", "--!><script>", "><script>", "->", "-", "--", "--!", "<!--", "<!"])
def test_a_comment_stays_one(comment: str) -> None:
    """Nothing in a comment ends it early: what comes after is read as it was written."""
    page = ProjectPage(comments=(comment, "SERIAL 1"))
    html = rendered(page)
    again = parse_html_page(html, HERE)
    assert len(again.comments) == 2
    assert again.comments[1] == "SERIAL 1"
    assert b"<script" not in html.replace(b"<!--" + comment.replace(">", "&gt;").encode() + b"-->", b"")


def test_a_file_that_has_no_path_is_no_link() -> None:
    """A page whose links are all dropped is still a page."""
    page = ProjectPage(files=(DistributionFile("a/b.whl", "https://files.example.org/a%2Fb.whl"),))
    html = rendered(page)
    assert b"<a" not in html
    assert parse_html_page(html, HERE).files == ()


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
attribute_names = st.from_regex(r"data-[a-z0-9_.:-]{1,8}", fullmatch=True) | st.sampled_from(["rel", "title", "id"])
attribute_lists = st.dictionaries(attribute_names, st.none() | texts, max_size=4).map(lambda d: tuple(d.items()))
fragments = st.just("") | st.from_regex(r"[a-zA-Z0-9=&<>\"'%+;]{1,20}", fullmatch=True)


@st.composite
def distribution_files(draw: st.DrawFn) -> DistributionFile:
    """A file that a page could name."""
    stem = draw(st.from_regex(r"[A-Za-z0-9+_.~!-]{1,8}", fullmatch=True))
    folder = draw(st.sampled_from(["packages", "pypi/packages", "root/x"]))
    host = draw(st.sampled_from(["mirror", "files"]))
    filename = f"{stem}-1.whl"
    attributes: Attributes = draw(attribute_lists)
    text = draw(texts.map(str.strip)) or filename
    return DistributionFile(
        filename, f"https://{host}.example.org/{folder}/{filename}", draw(fragments), text, attributes
    )


@given(st.lists(distribution_files(), max_size=4, unique_by=lambda file: file.filename), texts.map(str.strip))
def test_a_page_says_what_upstream_said(files: list[DistributionFile], title: str) -> None:
    """Rendered and read again, a page has its files with all that they say; only URLs are ours."""
    page = ProjectPage((("pypi:repository-version", "1.2"),), title, ("SERIAL 1",), tuple(files))
    again = parse_html_page(rendered(page), HERE)
    assert all(file.url.startswith("https://proxy.example.org/prefix/") for file in again.files)
    assert evolve(again, files=()) == evolve(page, files=())
    assert [evolve(file, url="") for file in again.files] == [evolve(file, url="") for file in page.files]


@given(attribute_lists, fragments, texts)
def test_pythons_own_parser_reads_the_same(attributes: Attributes, fragment: str, text: str) -> None:
    """Installers read pages with html.parser: to it too, an anchor has these attributes and nothing else."""
    anchors: list[dict[str, str | None]] = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "a":
                anchors.append(dict(attrs))

    page = page_of(*attributes, fragment=fragment)
    page = evolve(page, files=(evolve(page.files[0], text=text),))
    Anchors().feed(rendered(page).decode())
    href = "../../packages/aa/a-1.whl" + (f"#{fragment}" if fragment else "")
    assert anchors == [{"href": href, **dict(attributes)}]
