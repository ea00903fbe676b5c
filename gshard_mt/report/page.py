"""A page in one HTML file: sections with their tables and pictures, its style and its script."""
# SPDX-License-Identifier: Apache-2.0

import base64
import logging
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gshard_mt.report.tables import Table, escape

_NOTE_WIDTH = 100  # characters
_TEMPLATE = pathlib.Path(__file__).with_name("page.html.jinja")

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it logs that it lists the fonts


class Picture(NamedTuple):
    svg: bytes
    png: bytes
    width: int  # CSS pixels
    height: int


class Figure(NamedTuple):
    """A picture and the section that shows it."""

    section: str  # a section's id
    name: str  # `pictures/<name>.png`
    title: str
    picture: Picture

    @property
    def source(self) -> str:
        """The picture as a data URL, so that the page needs no other file."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.picture.svg).decode()


class Section(NamedTuple):
    """A table with what a reader needs to know about it; a page adds its figures."""

    id: str
    title: str
    notes: Sequence[str] = ()  # one paragraph each
    table: Table | None = None


class Page(NamedTuple):
    """All texts may be untrusted: they are escaped."""

    title: str
    lead: str
    sections: Sequence[Section]
    figures: Sequence[Figure] = ()
    signatures: Mapping[str, str] = {}  # of each metric


def write_page(
    page: Page, path: pathlib.Path, template: pathlib.Path = _TEMPLATE, **more: Any
) -> None:
    """Writes the page and its figures as `pictures/*.png` next to it, replacing earlier ones.

    A template of its own extends `page.html.jinja` and may use the values in `more`.
    """
    import jinja2  # not needed to print a table

    folder = path.parent / "pictures"
    for old in folder.glob("*.png"):
        old.unlink()
    for figure in page.figures:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{figure.name}.png").write_bytes(figure.picture.png)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _TEMPLATE.parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template.name).render(page=page, **more)
    path.write_text(html, encoding="utf-8")


def to_text(page: Page) -> str:
    """Returns the tables with their notes and the signatures for a terminal."""
    lines = []
    for section in page.sections:
        if section.table:
            notes = [line for note in section.notes for line in textwrap.wrap(note, _NOTE_WIDTH)]
            lines += [f"{section.title}:", *section.table.to_text(), *notes, ""]
    lines += [f"{name}: {signature}" for name, signature in page.signatures.items()]
    return "\n".join(lines) + "\n"


def to_markdown(page: Page) -> str:
    """Returns title, lead, sections and signatures as Markdown, without the figures."""
    lines = [f"# {escape(page.title)}", "", escape(page.lead), ""]
    for section in page.sections:
        lines += [f"## {escape(section.title)}", ""]
        for note in section.notes:
            lines += [escape(note), ""]
        if section.table:
            lines += [*section.table.to_markdown(), ""]
    lines += [f"- {name}: `{signature}`" for name, signature in page.signatures.items()]
    return "\n".join(lines).rstrip("\n") + "\n"
