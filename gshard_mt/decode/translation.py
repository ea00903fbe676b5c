"""A translation of a line, and the message about lines of which only a part was translated."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence
from typing import NamedTuple

MAX_NAMED = 10  # truncated lines in a message


class Translation(NamedTuple):
    """An English line and its log-probability in nats, divided by beam search's length penalty."""

    text: str
    score: float
    is_truncated: bool = False  # its source was longer than `decode.max_source_length`


def describe_truncated(
    num_lines: int, num_truncated: int, names: Sequence[str], max_source_length: int
) -> str:
    """Returns the message about truncated ones among `num_lines` lines; `names` has the first."""
    names = names[:MAX_NAMED]
    shown = ", ".join(names) + (", ..." if num_truncated > len(names) else "")
    return (
        f"truncated   {num_truncated:,} of {num_lines:,} lines are longer than "
        f"decode.max_source_length={max_source_length} and were cut there ({shown}); a line should "
        "be one sentence"
    )
