"""gshard-translate: translates lines of text into English, one line out for each line in.

gshard-translate --workdir RUN < source.txt > english.txt
gshard-translate --workdir RUN --input source.txt --nbest 4 --scores --output hypotheses.tsv
"""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import dataclasses
import io
import os
import stat
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

import tqdm
from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.pruning import define_pruning
from gshard_mt.cli.startup.start import start_jax
from gshard_mt.data.normalization import one_line
from gshard_mt.decode.translation import Translation, describe_truncated
from gshard_mt.errors import ConfigError

if TYPE_CHECKING:
    from gshard_mt.cli.text_input import Source
    from gshard_mt.decode.translate import Translator

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
_BEAM_SIZE = flags.DEFINE_integer(
    "beam_size", None, "Number of beams (default: the run's decode.beam_size)."
)
_SAMPLE = flags.DEFINE_float(
    "sample", 0.0, "If over 0, sample translations at this temperature instead of beam search."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Random seed of --sample; the same seed gives the same samples."
)

WINDOW = 4096  # lines translated at once; sorted by length for batching, written in order


def main() -> None:
    """Writes one line, or up to --nbest lines, for each line read."""
    from gshard_mt.cli.text_input import check_text, open_sources, read_windows
    from gshard_mt.run.exported import read_trained
    from gshard_mt.run.pruning import pruned

    folder = _read_folder()
    run = read_trained(folder)
    pruning = _read_pruning(folder, run, _STEP.value)
    if _LANGUAGE.value:
        (pruned(run, pruning) if pruning else run).check_language(_LANGUAGE.value)
    beam_size = run.config.decode.beam_size if _BEAM_SIZE.value is None else _BEAM_SIZE.value
    _check(beam_size)
    decode = dataclasses.replace(run.config.decode, beam_size=beam_size)
    config = dataclasses.replace(run.config, decode=decode)

    with contextlib.ExitStack() as files:
        # Refused before the model is loaded.
        sources = open_sources(_INPUT.value, files)
        output = _open_output(sources, files)
        check_text(sources)
        start_jax(folder, config)
        from gshard_mt.decode.translate import load_translator

        translator = load_translator(folder, config, _STEP.value, pruning)
        if _is_regular(output) and _OUTPUT.value:
            output.truncate(0)
        bar = files.enter_context(
            tqdm.tqdm(desc="translate", unit="line", mininterval=1.0, dynamic_ncols=True)
        )
        num_lines, truncated = _translate(translator, read_windows(sources, WINDOW), output, bar)
    if truncated:
        names = [f"line {number}" for number in truncated]
        message = describe_truncated(num_lines, names, config.decode.max_source_length)
        print(message, file=sys.stderr)


def _translate(
    translator: "Translator", windows: Iterable[list[str]], output: BinaryIO, bar: tqdm.tqdm
) -> tuple[int, list[int]]:
    """Writes the translations; returns the number of lines and the numbers of truncated ones."""
    from gshard_mt.decode.translate import Sampling

    start, truncated = 1, []
    for window in windows:
        sampling = Sampling(_SAMPLE.value, _SEED.value, start - 1) if _SAMPLE.value else None
        found = translator.list_best(window, _NBEST.value, bar.update, sampling)
        for number, (line, best) in enumerate(zip(window, found, strict=True), start):
            # UTF-8 whatever the locale.
            output.write("".join(_format(number, line, each) for each in best).encode())
            truncated += [number] if any(each.is_truncated for each in best) else []
        output.flush()
        start += len(window)
    return start - 1, truncated


def _open_output(sources: Iterable["Source"], files: contextlib.ExitStack) -> BinaryIO:
    """Opens --output without emptying it yet. Raises ConfigError if it is one of the inputs."""
    output, name = sys.stdout.buffer, "standard output"
    if _OUTPUT.value:
        name = _OUTPUT.value
        try:
            output = files.enter_context(open(name, "ab"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                f"--output: found {name}, which can't be written ({reason}); accepted: a file in "
                "an existing folder"
            ) from None
    for source in sources:
        if _is_regular(output) and _is_regular(source.file):
            if os.path.sameopenfile(output.fileno(), source.file.fileno()):
                raise ConfigError(
                    f"--output: found {name}, which is the same file as the input {source.name}; "
                    "accepted: another file"
                )
    return output


def _is_regular(file: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except io.UnsupportedOperation:  # in memory
        return False


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


def _format(number: int, line: str, translation: Translation) -> str:
    """Returns one row: line number, score and source line where asked for, then the translation.

    The line is as it was read, but for tabs in it, which become spaces.
    """
    columns = [str(number)] if _NBEST.value > 1 else []
    columns += [f"{translation.score:.4f}"] if _SCORES.value else []
    columns += [one_line(line)] if _TSV.value else []
    return "\t".join([*columns, translation.text]) + "\n"


entry = cli_flags.command(main)
