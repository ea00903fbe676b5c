"""Pages in one file each: templates, the style and the script that they share, their pictures."""
# SPDX-License-Identifier: Apache-2.0

import logging
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from gshard_mt.evaluate.figures import Figure

_FOLDER = pathlib.Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Returns a page. All text is escaped: sentences and names are not ours."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def silence_matplotlib() -> None:
    """Keeps it from telling of its list of fonts, once it is imported."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


def by_section(figures: "Iterable[Figure]") -> "dict[str, list[Figure]]":
    """Returns the figures of every section that has some."""
    sections: dict[str, list[Figure]] = {}
    for figure in figures:
        sections.setdefault(figure.section, []).append(figure)
    return sections


def write_pictures(figures: "Iterable[Figure]", folder: pathlib.Path) -> None:
    """Writes `pictures/*.png` into a folder; those that were there go."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for old in (folder / "pictures").glob("*.png"):
        old.unlink()
    for figure in figures:
        (folder / "pictures" / f"{figure.name}.png").write_bytes(figure.picture.png)
