"""ICU messages: `{n, plural, one {# file} other {# files}}`, of which each language has its own."""
# SPDX-License-Identifier: Apache-2.0

import re

_START = re.compile(r"\{\s*([\w.-]+)\s*,\s*(?:plural|selectordinal|select|choice)\s*,")
_BRACE = re.compile(r"[{}]")
_MAX_DEPTH = 8  # of messages within messages; real ones have two


def without_choices(text: str, depth: int = 0) -> str:
    """Returns the text with `{n}` and the text of all branches for each choice between branches.

    Languages have other plural forms, so that the number of branches and their names tell nothing.
    """
    parts, at = [], 0
    while depth < _MAX_DEPTH and (match := _START.search(text, at)):
        branches, end = _branches(text, match.end())
        if not end:
            break
        inner = [without_choices(each, depth + 1) for each in branches]
        parts += [text[at : match.start()], f"{{{match[1]}}} ", " ".join(inner)]
        at = end
    return "".join([*parts, text[at:]])


def _branches(text: str, at: int) -> tuple[list[str], int]:
    """Returns the content of the braces from `at` on and where the choice ends, 0 if it doesn't."""
    found, depth, start = [], 0, at
    for brace in _BRACE.finditer(text, at):
        if brace[0] == "{":
            depth += 1
            start = brace.end() if depth == 1 else start
        elif depth == 0:
            return found, brace.end()
        else:
            depth -= 1
            if depth == 0:
                found.append(text[start : brace.start()])
    return found, 0
