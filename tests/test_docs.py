"""What the documents point to is there: functions, files, the first command of the README."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re

import pytest

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
