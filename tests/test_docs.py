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


def test_every_place_that_the_paper_page_names_is_in_the_code():
    wrong = []
    cells = re.findall(r"`([^`]+)`", (ROOT / "docs" / "paper.md").read_text(encoding="utf-8"))
    path = ""
    for cell in cells:
        match = re.fullmatch(r"(?:([\w/]+\.py):?)?([A-Za-z_]\w*)?(?:\.\w+)?", cell)
        if match and match[1]:
            path, name = match[1], match[2]
            file = ROOT / "gshard_mt" / path
            if not file.exists():
                wrong.append(cell)
            elif name and not re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")):
                wrong.append(cell)
    assert not wrong


def test_the_first_command_stands_in_the_first_20_lines_of_the_readme():
    top = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    assert "make smoke" in top
