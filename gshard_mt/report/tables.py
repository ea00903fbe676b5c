"""Tables of text cells for a terminal and as Markdown (page.py has the HTML); records as CSV."""
# SPDX-License-Identifier: Apache-2.0

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

Cells = Sequence[str]


class Table(NamedTuple):
    """Formatted cells, which may be untrusted text: every rendering escapes them.

    Columns that are not in `text_columns` hold numbers: they are aligned right.
    """

    head: Cells
    rows: Sequence[Cells]
    text_columns: Collection[int] = (0,)
    footer: Sequence[Cells] = ()  # averages: below a rule, and not sorted on a page

    def to_text(self) -> list[str]:
        """Returns lines of aligned columns, with a rule below the head and above the footer."""
        lines = [self.head, *self.rows, *self.footer]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        found = []
        for cells in lines:
            padded = (
                cell.ljust(width) if column in self.text_columns else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            found.append("  ".join(padded).rstrip())
        rule = "-" * max(map(len, found))
        if self.footer:
            found.insert(1 + len(self.rows), rule)
        return [found[0], rule, *found[1:]]

    def to_markdown(self) -> list[str]:
        """Returns the lines of a Markdown table; the footer is its last rows."""
        columns = range(len(self.head))
        rule = ["---" if column in self.text_columns else "---:" for column in columns]
        head, *rows = ([escape(cell) for cell in cells] for cells in (self.head, *self.rows))
        footer = ([escape(cell) for cell in cells] for cells in self.footer)
        return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows, *footer)]


def to_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns CSV whose columns are the keys of the first record, with values in full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def escape(text: str) -> str:
    """Returns Markdown that shows a text as it is, on one line: no markup, HTML or cell border."""
    one_line = re.sub(r"[\r\n]+", " ", text)
    escaped = re.sub(r"[\\`|\[&]|\*(?=\S)|(?<!\w)_(?=\S)", r"\\\g<0>", one_line)
    return escaped.replace("<", "&lt;")
