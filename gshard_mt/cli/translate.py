"""gshard-translate: translates lines of text into English, one line out for each line in.

Usage:   gshard-translate --workdir RUN|--model EXPORT [--step STEP] < SOURCE.txt > ENGLISH.txt
Example: gshard-translate --workdir run < source.txt > english.txt
         gshard-translate --workdir run --input source.txt --nbest 4 --scores --output out.tsv
         gshard-translate --workdir run --input source.txt --jsonl --shard 2/8 --output 2.jsonl
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.line_by_line import (
    LineJob,
    LineWindow,
    Model,
    Rows,
    define_flags,
    read_model,
    write_rows,
)
from gshard_mt.cli.text_output import RowLayout, format_row
from gshard_mt.decode.translation import LineOptions, describe_split, describe_too_long
from gshard_mt.errors import ConfigError
from gshard_mt.run.calibration import require_calibration

if TYPE_CHECKING:
    from gshard_mt.decode.translate import Translator

_FLAGS = define_flags("translate")
_NBEST = flags.DEFINE_integer(
    "nbest",
    1,
    "Number of translations to write for each line, best first; if over 1, each begins with the "
    "line's number, from 1, and a tab.",
)
_SCORES = flags.DEFINE_bool(
    "scores",
    False,
    "Write a score and a tab before each translation: log-probability divided by length penalty.",
)
_CONFIDENCE = flags.DEFINE_bool(
    "confidence",
    False,
    "Write a confidence and a tab before each translation: the share of such translations of the "
    "dev split, which gshard-eval --split dev has calibrated, with a sentence chrF of at least 50.",
)
_TSV = flags.DEFINE_bool("tsv", False, "Write the source line and a tab before each translation.")
_JSONL = flags.DEFINE_bool(
    "jsonl",
    False,
    "Write each translation as a JSON object with line, source, target, score, confidence if asked "
    "for and, if the line was cut, truncated; a recipe reads the file as jsonl:FILE.",
)
_BEAM_SIZE = flags.DEFINE_integer(
    "beam_size", None, "Number of beams (default: the run's decode.beam_size)."
)
_FORCE_PREFIX = flags.DEFINE_bool(
    "force_prefix",
    False,
    "Each input line is a source line, a tab, and English that its translation must begin with; a "
    "line without a tab is translated freely.",
)
_SAMPLE = flags.DEFINE_float(
    "sample", 0.0, "If over 0, sample translations at this temperature instead of beam search."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Random seed of --sample; the same seed gives the same samples."
)

# Flags that determine what rows there are.
_SHAPING = (
    *(_NBEST, _SCORES, _CONFIDENCE, _TSV, _JSONL, _SAMPLE, _FORCE_PREFIX),
    _FLAGS.language,
)

WINDOW = 4096  # lines translated at once; sorted by length for batching, written in order


def main() -> None:
    """Writes one row, or up to --nbest rows, for each line read."""
    model = read_model(_FLAGS)
    beam_size = model.config.decode.beam_size if _BEAM_SIZE.value is None else _BEAM_SIZE.value
    _check(beam_size)
    decode = dataclasses.replace(model.config.decode, beam_size=beam_size)
    model = model._replace(config=dataclasses.replace(model.config, decode=decode))
    if _CONFIDENCE.value:
        _check_confidence(model)
    task: dict[str, Any] = {f"--{each.name}": each.value for each in _SHAPING}
    task["--seed"] = _SEED.value if _SAMPLE.value else None
    job = LineJob(WINDOW, task, functools.partial(_make_writer, model))
    done = write_rows(_FLAGS, model, job)
    if done.num_split:
        print(describe_split(done.num_lines, done.num_split), file=sys.stderr)
    if done.num_too_long:
        names = [f"line {number}" for number in done.first_too_long]
        message = describe_too_long(decode, done.num_lines, done.num_too_long, names)
        print(message, file=sys.stderr)


def _make_writer(model: Model, translator: "Translator") -> Callable[[LineWindow], Rows]:
    from gshard_mt.decode.translate import Sampling

    calibration = None
    if _CONFIDENCE.value:
        calibration = require_calibration(model.folder, translator.name, model.config.decode)
    columns = _NBEST.value > 1, _SCORES.value, _TSV.value, _JSONL.value
    layout = RowLayout(*columns, calibration)

    def write(window: LineWindow) -> Rows:
        sampling = None
        if _SAMPLE.value:
            first = window.numbers[0] - 1
            sampling = Sampling(_SAMPLE.value, _SEED.value, first, window.stride)
        lines, options = _read_options(window.lines)
        rows, too_long = [], []
        found = translator.list_best(lines, _NBEST.value, window.on_progress, sampling, options)
        for number, line, best in zip(window.numbers, lines, found, strict=True):
            rows += [format_row(layout, number, line, each) for each in best]
            too_long += [number] if best[0].was_too_long else []
        return Rows(rows, too_long, sum(best[0].num_sentences > 1 for best in found))

    return write


def _read_options(given: list[str]) -> tuple[list[str], list[LineOptions]]:
    """Returns the lines to translate, and what is asked of each."""
    from gshard_mt.languages import language_code

    language = language_code(_FLAGS.language.value) if _FLAGS.language.value else None
    parts = [line.partition("\t") if _FORCE_PREFIX.value else (line, "", "") for line in given]
    lines = [source for source, _, _ in parts]
    return lines, [LineOptions(prefix, language=language) for _, _, prefix in parts]


def _check(beam_size: int) -> None:
    if beam_size < 1:
        raise ConfigError(f"--beam_size: found {beam_size}, accepted: 1 or more")
    most = beam_size if not _SAMPLE.value else _NBEST.value
    if not 1 <= _NBEST.value <= most:
        raise ConfigError(
            f"--nbest: found {_NBEST.value}, accepted: 1 to {most}, the number of "
            "beams; see --beam_size"
        )
    if _SAMPLE.value < 0:
        raise ConfigError(f"--sample: found {_SAMPLE.value}, accepted: a temperature, e.g. 0.8")
    if _JSONL.value and (_TSV.value or _SCORES.value):
        other = "--tsv" if _TSV.value else "--scores"
        raise ConfigError(
            f"--jsonl: found with {other}, accepted: without it, since the JSON has the line and "
            "the score"
        )


def _check_confidence(model: Model) -> None:
    """Raises ConfigError where translations are not those that were calibrated."""
    others = {
        "--nbest": _NBEST.value > 1,
        "--sample": _SAMPLE.value,
        "--force_prefix": _FORCE_PREFIX.value,
        "--keep_experts": model.pruning,
    }
    for name, is_given in others.items():
        if is_given:
            raise ConfigError(
                f"--confidence: found with {name}, accepted: without it, since only the best "
                "translations of the whole model are calibrated"
            )


entry = cli_flags.command(main)
