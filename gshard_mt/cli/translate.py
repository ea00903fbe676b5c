"""gshard-translate: translates lines of text into English, one line out for each line in.

gshard-translate --workdir RUN < source.txt > english.txt
gshard-translate --workdir RUN --input source.txt --nbest 4 --scores --output hypotheses.tsv
"""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import tqdm
from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup.start import start_jax
from gshard_mt.errors import ConfigError

if TYPE_CHECKING:
    from gshard_mt.decode.translate import Translation

_WORKDIR = cli_flags.define_workdir()
_STEP = cli_flags.define_step()
_LANGUAGE = flags.DEFINE_string(
    "source_language",
    None,
    "Language code of the input, e.g. de; refused if the model was not trained on it.",
)
_INPUT = flags.DEFINE_multi_string(
    "input", [], "Text file to translate, repeatable (default: standard input)."
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
_BEAM_SIZE = flags.DEFINE_integer(
    "beam_size", None, "Number of beams (default: the run's decode.beam_size)."
)
_SAMPLE = flags.DEFINE_float(
    "sample", 0.0, "If over 0, sample translations at this temperature instead of beam search."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Random seed of --sample; the same seed gives the same samples."
)

WINDOW = 4096  # lines in memory; sorted by length for batching, written in order


def main() -> None:
    """Writes one line, or up to --nbest lines, for each line read."""
    from gshard_mt.run.directory import read_run

    workdir = pathlib.Path(_WORKDIR.value)
    run = read_run(workdir)
    if _LANGUAGE.value:
        run.check_language(_LANGUAGE.value)
    beam_size = run.config.decode.beam_size if _BEAM_SIZE.value is None else _BEAM_SIZE.value
    _check(beam_size)
    decode = dataclasses.replace(run.config.decode, beam_size=beam_size)
    config = dataclasses.replace(run.config, decode=decode)

    with contextlib.ExitStack() as files:
        # Opened before the model is loaded.
        sources = [files.enter_context(open(path, "rb")) for path in _INPUT.value]
        start_jax(workdir, config)
        from gshard_mt.decode.translate import Sampling, load_translator

        translator = load_translator(workdir, config, _STEP.value)
        output = sys.stdout.buffer
        if _OUTPUT.value:
            output = files.enter_context(open(_OUTPUT.value, "wb"))
        bar = files.enter_context(
            tqdm.tqdm(desc="translate", unit="line", mininterval=1.0, dynamic_ncols=True)
        )
        lines = _read(sources or [sys.stdin.buffer])
        for start in itertools.count(0, WINDOW):
            window = list(itertools.islice(lines, WINDOW))
            if not window:
                break
            sampling = Sampling(_SAMPLE.value, _SEED.value, start) if _SAMPLE.value else None
            found = translator.list_best(window, _NBEST.value, bar.update, sampling)
            for number, (line, best) in enumerate(zip(window, found, strict=True), start + 1):
                # UTF-8 whatever the locale.
                output.write("".join(_format(number, line, each) for each in best).encode())
            output.flush()


def _check(beam_size: int) -> None:
    for path in _INPUT.value:
        if not pathlib.Path(path).exists():
            raise ConfigError(f"--input: found {path}, which does not exist; accepted: a text file")
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


def _read(files: Iterable[BinaryIO]) -> Iterator[str]:
    for line in itertools.chain.from_iterable(files):
        yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def _format(number: int, line: str, translation: "Translation") -> str:
    """Returns one row: line number, score and source line where asked for, then the translation."""
    columns = [str(number)] if _NBEST.value > 1 else []
    columns += [f"{translation.score:.4f}"] if _SCORES.value else []
    columns += [" ".join(line.split())] if _TSV.value else []
    return "\t".join([*columns, translation.text]) + "\n"


entry = cli_flags.command(main)
