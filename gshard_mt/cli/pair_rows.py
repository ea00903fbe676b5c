"""Rows of pairs: read as two columns or JSON objects, written with their scores."""
# SPDX-License-Identifier: Apache-2.0

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gshard_mt.errors import DataError

if TYPE_CHECKING:
    from gshard_mt.decode.score import PairScore

SIDES = ("source", "target")
FIELDS = ("score", "sum", "num_tokens", "tokens", "token_scores", "truncated")

_DIGITS = 6  # after the point
_SURROGATE = re.compile("[\ud800-\udfff]")


class PairRow(NamedTuple):
    """A pair and the other fields of its object, if it was one."""

    source: str
    target: str
    fields: dict[str, Any]


def read_columns(line: str, where: str) -> PairRow:
    """Reads source TAB target. Raises DataError."""
    columns = line.split("\t")
    if len(columns) != 2:
        raise DataError(
            f"{where}: found {len(columns)} columns, accepted: 2, source TAB target; for JSON "
            "lines give --jsonl"
        )
    return PairRow(columns[0], columns[1], {})


def read_object(line: str, where: str, prefix: str) -> PairRow:
    """Reads a JSON object with the strings `source` and `target`. Raises DataError.

    An object that has one of the fields that `format_object` adds is refused.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from None
    source, target = map(fields.get, SIDES) if isinstance(fields, dict) else (None, None)
    if not (isinstance(source, str) and isinstance(target, str)):
        raise DataError(
            f"{where}: found no pair, accepted: an object with the strings source and target"
        )
    for name in FIELDS:
        if prefix + name in fields:
            raise DataError(
                f"{where}: found the field {prefix + name}, which would be lost, accepted: objects "
                "without it; --prefix gives the new fields other names"
            )
    return PairRow(source, target, fields)


def format_columns(score: "PairScore", with_tokens: bool) -> str:
    """Returns the score and, after a tab, that of each token."""
    columns = [[score.mean], score.token_scores] if with_tokens else [[score.mean]]
    texts = (" ".join(f"{_rounded(each):.{_DIGITS}f}" for each in column) for column in columns)
    return "\t".join(texts) + "\n"


def format_object(row: PairRow, score: "PairScore", with_tokens: bool, prefix: str) -> str:
    """Returns the object as it was read, with FIELDS added; lone surrogates become U+FFFD."""
    added: dict[str, Any] = {"score": _rounded(score.mean), "sum": _rounded(score.sum)}
    added["num_tokens"] = len(score.tokens)
    if with_tokens:
        added["tokens"] = score.tokens
        added["token_scores"] = [_rounded(each) for each in score.token_scores]
    if score.truncated:
        added["truncated"] = score.truncated
    fields = row.fields | {prefix + name: value for name, value in added.items()}
    return _SURROGATE.sub("\ufffd", json.dumps(fields, ensure_ascii=False)) + "\n"


def _rounded(number: float) -> float:
    return round(number, _DIGITS) + 0.0  # without -0.0
