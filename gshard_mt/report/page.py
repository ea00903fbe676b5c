"""Pages in one file each: templates, the style and the script that they share, their pictures."""
# SPDX-License-Identifier: Apache-2.0

import base64
import logging
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2

if TYPE_CHECKING:  # matplotlib is loaded when a picture is drawn
    from gshard_mt.report.pictures import Picture

_FOLDER = pathlib.Path(__file__).parent


class Figure(NamedTuple):
    """A picture with its place on the page."""

    section: str  # one of the page's
    name: str  # `pictures/<name>.png`
    title: str
    picture: "Picture"

    @property
    def source(self) -> str:
        """The picture itself as an address, so that the page needs no other file."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.picture.svg).decode()


def render(template: pathlib.Path, **values: Any) -> str:
    """Returns a page. All text is escaped: sentences and names are not ours."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)


def silence_matplotlib() -> None:
    """Keeps it from telling of its list of fonts, once it is imported."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


def by_section(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """Returns the figures of every section that has some."""
    sections: dict[str, list[Figure]] = {}
    for figure in figures:
        sections.setdefault(figure.section, []).append(figure)
    return sections


def write_pictures(figures: Iterable[Figure], folder: pathlib.Path) -> None:
    """Writes `pictures/*.png` into a folder; those that were there go."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for old in (folder / "pictures").glob("*.png"):
        old.unlink()
    for figure in figures:
        (folder / "pictures" / f"{figure.name}.png").write_bytes(figure.picture.png)
