"""gshard-translate: lines from standard input, English lines to standard output, in order."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import pathlib
import sys

import tqdm
from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.memory import keep_buffers, largest_weight
from gshard_mt.config import decoding_mesh_shape

_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.", required=True)
_STEP = flags.DEFINE_string(
    "step", "latest", "Which checkpoint: a step, latest, or best (dev nll)."
)
_LANGUAGE = flags.DEFINE_string(
    "source_language", None, "The language of the lines; checked against those trained on."
)

WINDOW = 4096  # lines held at once: sorted by length within, written in order


def main(argv) -> None:
    """One line out for every line in."""
    del argv
    from gshard_mt.run import read_run

    workdir = pathlib.Path(_WORKDIR.value)
    run = read_run(workdir)
    if _LANGUAGE.value:
        run.check_language(_LANGUAGE.value)

    keep_buffers(largest_weight(run.config))
    from gshard_mt.decode.translate import Translator
    from gshard_mt.partitioning import mesh

    mesh.simulate_cpu_devices(run.config.mesh.num_cpu_devices)
    grid = mesh.build_mesh(*decoding_mesh_shape(run.config))
    translator = Translator(workdir, run.config, _STEP.value, grid)
    lines = (line.decode("utf-8", errors="replace").rstrip("\r\n") for line in sys.stdin.buffer)
    with tqdm.tqdm(desc="translate", unit="line", mininterval=1.0, dynamic_ncols=True) as bar:
        while window := list(itertools.islice(lines, WINDOW)):
            texts = translator.translate(window, bar.update)
            # Whatever the locale is, and one line each whatever a model says.
            sys.stdout.buffer.write("".join(f"{text}\n" for text in texts).encode())
            sys.stdout.buffer.flush()


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
