"""What the documents point to is there: functions, files, the first command of the README."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re

import pytest

from tests.test_floors import FLOORS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    paths = [link for link in links if "://" not in link]
    assert not [path for path in paths if not (page.parent / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_function_that_a_page_names_is_defined_in_its_file(page):
    wrong = []
    for cell in re.findall(r"`(\w[\w/]*\.py:\w+)", page.read_text(encoding="utf-8")):
        path, name = cell.split(":")
        files = [file for file in (ROOT / "gshard_mt" / path, ROOT / path) if file.exists()]
        definition = rf"^ *(?:def |class )?{name}\b *[:(=]"
        if not files or not re.search(definition, files[0].read_text(encoding="utf-8"), re.M):
            wrong.append(cell)
    assert not wrong


def test_every_file_that_the_paper_page_names_exists():
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w/]+\.py)\b", page))
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / "gshard_mt" / path).exists()]


def test_the_first_command_stands_in_the_first_20_lines_of_the_readme():
    top = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    assert "make smoke" in top


def test_the_house_in_the_readme_has_the_floors_that_the_imports_are_held_to():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    house = readme.split("## The house")[1].split("```")[1]
    lines = [re.split(r" {3,}", line)[0].split() for line in house.strip().splitlines()]
    assert [set(rooms) for rooms in reversed(lines)] == FLOORS


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_other_pages_point_to_the_one_table_of_floors(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "`FLOORS` in `tests/test_floors.py`" in text
    assert not re.search(r"^\W*[1-7]\W+`?(cli|config|errors|evaluate)", text, re.MULTILINE)
