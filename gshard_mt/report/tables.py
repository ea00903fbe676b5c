"""A table as cells of text, for a terminal and as Markdown; the first line is its head."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Collection, Sequence

Cells = Sequence[Sequence[str]]


def align(cells: Cells, text_columns: Collection[int]) -> list[str]:
    """Returns a line for each of the cells' and a rule below the head; numbers are at the right."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = []
    for line in cells:
        padded = (
            text.ljust(width) if column in text_columns else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return lines


def to_markdown(cells: Cells, text_columns: Collection[int]) -> list[str]:
    """Returns the lines of a Markdown table; what is in a cell stays text."""
    head, *body = cells
    rule = ["---" if column in text_columns else "---:" for column in range(len(head))]
    return [_line(head), f"| {' | '.join(rule)} |", *map(_line, body)]


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("<", "\\<") for cell in cells)
    return f"| {' | '.join(escaped)} |"
