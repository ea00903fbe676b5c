"""gshard-translate: lines from files or standard input, English lines out, in order."""
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
from gshard_mt.cli.startup.compilation import use_cache
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.config.records import decoding_mesh_shape
from gshard_mt.errors import ConfigError

if TYPE_CHECKING:  # JAX is loaded when the flags are known to be right
    from gshard_mt.decode.translate import Translation

_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.", required=True)
_STEP = flags.DEFINE_string(
    "step",
    "latest",
    "Which checkpoint: a step, latest, best (by train.best_by), or average: the mean of all kept.",
)
_LANGUAGE = flags.DEFINE_string(
    "source_language", None, "The language of the lines; checked against those trained on."
)
_INPUT = flags.DEFINE_multi_string(
    "input", [], "A file of lines to translate, repeatable; standard input without it."
)
_OUTPUT = flags.DEFINE_string("output", None, "The file to write; standard output without it.")
_NBEST = flags.DEFINE_integer(
    "nbest", 1, "Up to so many lines for a line, best first, the line's number (from 1) before."
)
_SCORES = flags.DEFINE_bool(
    "scores", False, "Write the score before the translation: log-probability over length penalty."
)
_TSV = flags.DEFINE_bool("tsv", False, "Write the line itself before its translation.")
_BEAM_SIZE = flags.DEFINE_integer("beam_size", None, "Beams, if not the run's decode.beam_size.")
_SAMPLE = flags.DEFINE_float(
    "sample", 0.0, "Draw translations at this temperature instead of searching for the best."
)
_SEED = flags.DEFINE_integer("seed", 0, "Which samples: the same seed draws the same.")

WINDOW = 4096  # lines held at once: sorted by length within, written in order


def main(argv) -> None:
    """One line out for every line in, or up to --nbest lines."""
    del argv
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
        # Opened before anything is computed.
        sources = [files.enter_context(open(path, "rb")) for path in _INPUT.value]
        keep_buffers(largest_weight(config))
        from gshard_mt.decode.translate import Draw, load_translator
        from gshard_mt.partitioning import mesh

        use_cache(workdir)
        mesh.simulate_cpu_devices(config.mesh.num_cpu_devices)
        grid = mesh.build_mesh(*decoding_mesh_shape(config))
        translator = load_translator(workdir, config, _STEP.value, grid)
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
            draw = Draw(_SAMPLE.value, _SEED.value, start) if _SAMPLE.value else None
            found = translator.list_best(window, _NBEST.value, bar.update, draw)
            for number, (line, best) in enumerate(zip(window, found, strict=True), start + 1):
                # Whatever the locale is, and one line each whatever a model says.
                output.write("".join(_format(number, line, each) for each in best).encode())
            output.flush()


def _check(beam_size: int) -> None:
    for path in _INPUT.value:
        if not pathlib.Path(path).exists():
            raise ConfigError(f"--input: found {path}, which is not there; accepted: a text file")
    if beam_size < 1:
        raise ConfigError(f"--beam_size: found {beam_size}, accepted: 1 or more")
    most = beam_size if not _SAMPLE.value else _NBEST.value
    if not 1 <= _NBEST.value <= most:
        raise ConfigError(
            f"--nbest: found {_NBEST.value}, accepted: 1 to {most}, the beams; see --beam_size"
        )
    if _SAMPLE.value < 0:
        raise ConfigError(f"--sample: found {_SAMPLE.value}, accepted: a temperature, as 0.8")


def _read(files: Iterable[BinaryIO]) -> Iterator[str]:
    for line in itertools.chain.from_iterable(files):
        yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def _format(number: int, line: str, translation: "Translation") -> str:
    """Returns columns: the line's number, the score, the line, as they are asked for; English."""
    columns = [str(number)] if _NBEST.value > 1 else []
    columns += [f"{translation.score:.4f}"] if _SCORES.value else []
    columns += [" ".join(line.split())] if _TSV.value else []
    return "\t".join([*columns, translation.text]) + "\n"


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
