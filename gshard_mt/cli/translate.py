"""gshard-translate: translates lines of text into English, one line out for each line in.

gshard-translate --workdir RUN < source.txt > english.txt
gshard-translate --workdir RUN --input source.txt --nbest 4 --scores --output hypotheses.tsv
gshard-translate --workdir RUN --input source.txt --jsonl --shard 2/8 --output 2.jsonl --resume
"""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import tqdm
from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.progress import Done, Progress, describe_inputs
from gshard_mt.cli.pruning import define_pruning
from gshard_mt.cli.startup.start import start_jax
from gshard_mt.cli.text_output import RowLayout, format_row, is_regular, open_output
from gshard_mt.config.records import Config
from gshard_mt.decode.translation import LineOptions, describe_too_long
from gshard_mt.errors import ConfigError

if TYPE_CHECKING:
    from gshard_mt.cli.text_input import InputShard, Source
    from gshard_mt.decode.translate import Translator
    from gshard_mt.run.pruning import Pruning

_read_folder = cli_flags.define_model()
_STEP = cli_flags.define_step()
_read_pruning = define_pruning()
_LANGUAGE = flags.DEFINE_string(
    "source_language",
    None,
    "Language code of the input, e.g. de (or deu, de-AT, deu_Latn); refused if the model was not "
    "trained on it.",
)
_INPUT = flags.DEFINE_multi_string(
    "input",
    [],
    "UTF-8 text file to translate, plain or compressed, repeatable (default: standard input).",
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write (default: standard output).")
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
_TSV = flags.DEFINE_bool("tsv", False, "Write the source line and a tab before each translation.")
_JSONL = flags.DEFINE_bool(
    "jsonl",
    False,
    "Write each translation as a JSON object with line, source, target, score and, if the line was "
    "cut, truncated; a recipe reads the file as jsonl:FILE.",
)
_SHARD = flags.DEFINE_string(
    "shard",
    "1/1",
    "I/N: translate only lines I, I + N, I + 2N ..., so that N machines can share the input; line "
    "numbers and samples are those of the whole input.",
)
_RESUME = flags.DEFINE_bool(
    "resume",
    False,
    "Continue the --output that an earlier start of the same command has begun. The file "
    "OUTPUT.progress says how much of it is done.",
)
_BEAM_SIZE = flags.DEFINE_integer(
    "beam_size", None, "Number of beams (default: the run's decode.beam_size)."
)
_set_decode = cli_flags.define_decode()
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
_SHAPING = (_NBEST, _SCORES, _TSV, _JSONL, _SAMPLE, _FORCE_PREFIX, _LANGUAGE)

WINDOW = 4096  # lines translated at once; sorted by length for batching, written in order


def main() -> None:
    """Writes one row, or up to --nbest rows, for each line read."""
    from gshard_mt.cli.text_input import check_text, open_sources, read_shard, read_windows
    from gshard_mt.run.exported import read_trained
    from gshard_mt.run.pruning import pruned

    folder = _read_folder()
    run = read_trained(folder)
    pruning = _read_pruning(folder, run, _STEP.value)
    if _LANGUAGE.value:
        (pruned(run, pruning) if pruning else run).check_language(_LANGUAGE.value)
    config = _set_decode(run.config)
    beam_size = config.decode.beam_size if _BEAM_SIZE.value is None else _BEAM_SIZE.value
    _check(beam_size)
    shard = read_shard(_SHARD.value)
    decode = dataclasses.replace(config.decode, beam_size=beam_size)
    config = dataclasses.replace(config, decode=decode)

    with contextlib.ExitStack() as files:
        # Refused before the model is loaded.
        sources = open_sources(_INPUT.value, files)
        output = open_output(_OUTPUT.value, sources, files)
        task = _describe_task(config, shard, pruning)
        progress = _open_progress(sources, output, task) if _RESUME.value else None
        check_text(sources)
        start_jax(folder, config)
        translator = _load(folder, config, pruning, progress)
        if translator is None:
            return
        if not progress and is_regular(output) and _OUTPUT.value:
            output.truncate(0)
        done = progress.done if progress else Done()
        windows = read_windows(sources, WINDOW, shard, done.num_lines)
        bar = tqdm.tqdm(
            desc="translate",
            unit="line",
            initial=done.num_lines,
            mininterval=1.0,
            dynamic_ncols=True,
        )
        files.enter_context(bar)
        for text, so_far in _translate(translator, windows, shard, done, bar):
            done = so_far
            if progress:
                progress.add(text, done)
            else:
                output.write(text)
                output.flush()
        if progress:
            progress.finish()
    if done.num_too_long:
        names = [f"line {number}" for number in done.first_too_long]
        message = describe_too_long(config.decode, done.num_lines, done.num_too_long, names)
        print(message, file=sys.stderr)


def _translate(
    translator: "Translator",
    windows: Iterable[list[str]],
    shard: "InputShard",
    done: Done,
    bar: tqdm.tqdm,
) -> Iterator[tuple[bytes, Done]]:
    """Yields the rows of each window, and what is done with it."""
    from gshard_mt.decode.translate import Sampling

    is_many = _NBEST.value > 1
    layout = RowLayout(is_many, _SCORES.value, _TSV.value, _JSONL.value)
    for window in windows:
        numbers = [shard.line_number(done.num_lines + k) for k in range(len(window))]
        sampling = None
        if _SAMPLE.value:
            sampling = Sampling(_SAMPLE.value, _SEED.value, numbers[0] - 1, shard.count)
        lines, options = _read_options(window)
        rows, too_long = [], []
        found = translator.list_best(lines, _NBEST.value, bar.update, sampling, options)
        for number, line, best in zip(numbers, lines, found, strict=True):
            rows += [format_row(layout, number, line, each) for each in best]
            too_long += [number] if best[0].was_too_long else []
        done = done.add(len(window), too_long)
        yield "".join(rows).encode(), done  # UTF-8 whatever the locale


def _read_options(window: list[str]) -> tuple[list[str], list[LineOptions]]:
    """Returns the lines to translate, and what is asked of each."""
    from gshard_mt.languages import language_code

    language = language_code(_LANGUAGE.value) if _LANGUAGE.value else None
    parts = [line.partition("\t") if _FORCE_PREFIX.value else (line, "", "") for line in window]
    lines = [source for source, _, _ in parts]
    return lines, [LineOptions(prefix, language=language) for _, _, prefix in parts]


def _describe_task(
    config: Config, shard: "InputShard", pruning: "Pruning | None"
) -> dict[str, Any]:
    """Returns what determines the output, by name, apart from the inputs and the checkpoint."""
    return {
        **{f"--{each.name}": each.value for each in _SHAPING},
        "--seed": _SEED.value if _SAMPLE.value else None,
        "--shard": str(shard),
        **{f"decode.{key}": value for key, value in dataclasses.asdict(config.decode).items()},
        "lines of a window": WINDOW,
        "experts that are kept": pruning and {k: list(v) for k, v in pruning.kept.items()},
    }


def _open_progress(sources: Sequence["Source"], output: BinaryIO, task: dict[str, Any]) -> Progress:
    """Returns the progress of the output. Raises ConfigError as `Progress`."""
    if not (_OUTPUT.value and _INPUT.value):
        missing = "--input" if _OUTPUT.value else "--output"
        raise ConfigError(
            f"--resume: found without {missing}, accepted: with --output FILE and --input FILE"
        )
    files = [(_OUTPUT.value, output), *((each.name, each.file) for each in sources)]
    for name, file in files:
        if not is_regular(file):
            raise ConfigError(
                f"--resume: found {name}, which is no regular file; accepted: files on a disk"
            )
    return Progress(_OUTPUT.value, output, task | describe_inputs(_INPUT.value))


def _load(
    folder: pathlib.Path, config: Config, pruning: "Pruning | None", progress: Progress | None
) -> "Translator | None":
    """Returns the model; None if the output is finished, which is then said.

    Raises ConfigError if the output was begun with another model.
    """
    from gshard_mt.decode.loading import load_translator
    from gshard_mt.run.checkpoints import AVERAGE
    from gshard_mt.run.exported import is_export

    if not progress:
        return load_translator(folder, config, _STEP.value, pruning)
    (saved, checksum), step = _saved(folder, config), _STEP.value
    # A run may have removed the checkpoint of a finished output; an export has only its own.
    may_be_gone = progress.is_finished and not progress.has_checkpoint(saved)
    if progress.is_begun and (is_export(folder) or not may_be_gone):
        step = progress.choose_step(step, saved)
        progress.check_checkpoint(step, checksum(step))
    if progress.is_begun:
        print(progress.describe(), file=sys.stderr)
    if progress.is_finished:
        return None
    translator = load_translator(folder, config, step, pruning)
    chosen = step if step == AVERAGE else str(translator.step)
    progress.begin(_STEP.value, translator.name, checksum(chosen))
    return translator


def _saved(folder: pathlib.Path, config: Config) -> tuple[list[int], Callable[[str], str]]:
    """Returns the steps of a run or an exported model, and what gives a step's checksum."""
    from gshard_mt.run.checkpoints import Checkpoints
    from gshard_mt.run.exported import is_export, read_export

    if is_export(folder):
        model = read_export(folder)
        return [model.step], lambda step: model.checksum()
    checkpoints = Checkpoints(folder, best_by=config.train.best_by)
    return checkpoints.steps(), checkpoints.params_checksum


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


entry = cli_flags.command(main)
