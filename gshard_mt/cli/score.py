"""gshard-score: tells how probable a model finds given translations, a row for each pair.

Usage:   gshard-score --workdir RUN|--model EXPORT [--step STEP] < PAIRS.tsv > SCORES.tsv
Example: gshard-score --workdir run < pairs.tsv > scores.tsv
         gshard-score --workdir run --input pairs.tsv --notokens | paste - pairs.tsv | sort -g
         gshard-score --workdir run --input pairs.jsonl --jsonl --shard 2/8 --output 2.jsonl

A pair is source TAB target. Its row has the score, which is the log-probability of the target per
token in nats, a tab, and the log-probability of each token, the last of which is the end of the
sentence.
"""
# SPDX-License-Identifier: Apache-2.0

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.line_by_line import (
    LineJob,
    LineWindow,
    Rows,
    define_flags,
    read_model,
    write_rows,
)
from gshard_mt.cli.pair_rows import format_columns, format_object, read_columns, read_object
from gshard_mt.errors import ConfigError

if TYPE_CHECKING:
    from gshard_mt.decode.translate import Translator

_FLAGS = define_flags("score")
_JSONL = flags.DEFINE_bool(
    "jsonl",
    False,
    "Read JSON objects with source and target, and write them with score, sum, num_tokens, tokens, "
    "token_scores and, if a side was cut, truncated. Other fields stay as they are.",
)
_TOKENS = flags.DEFINE_bool("tokens", True, "Write the log-probability of each token, too.")
_PREFIX = flags.DEFINE_string(
    "prefix", "", "Of the names of the fields that --jsonl adds, e.g. reverse_ for reverse_score."
)

WINDOW = 4096  # pairs scored at once; sorted by length for batching, written in order


def main() -> None:
    """Writes one row for each pair read."""
    if _PREFIX.value and not _JSONL.value:
        raise ConfigError("--prefix: found without --jsonl, accepted: with it")
    model = read_model(_FLAGS)
    parse = functools.partial(read_object, prefix=_PREFIX.value) if _JSONL.value else read_columns
    task = {f"--{each.name}": each.value for each in (_JSONL, _TOKENS, _PREFIX)}
    done = write_rows(_FLAGS, model, LineJob(WINDOW, task, _make_writer, parse))
    if done.num_too_long:
        shown = [f"line {number}" for number in done.first_too_long]
        shown += ["..."] if done.num_too_long > len(shown) else []
        most = model.config.decode.max_source_length
        print(
            f"truncated   {done.num_too_long:,} of {done.num_lines:,} pairs have a side that is "
            f"longer than decode.max_source_length={most} and was cut there ({', '.join(shown)})",
            file=sys.stderr,
        )


def _make_writer(translator: "Translator") -> Callable[[LineWindow], Rows]:
    from gshard_mt.decode.score import Scorer

    scorer, with_tokens = Scorer(translator), _TOKENS.value

    def write(window: LineWindow) -> Rows:
        scores = scorer.score([row[:2] for row in window.lines], window.on_progress)
        if _JSONL.value:
            rows = [
                format_object(row, score, with_tokens, _PREFIX.value)
                for row, score in zip(window.lines, scores, strict=True)
            ]
        else:
            rows = [format_columns(score, with_tokens) for score in scores]
        cut = [
            number for number, score in zip(window.numbers, scores, strict=True) if score.truncated
        ]
        return Rows(rows, cut)

    return write


entry = cli_flags.command(main)
