"""gshard-serve: translates over HTTP, many clients' sentences at once, with a page to try it."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup.compilation import use_cache
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.config.records import decoding_mesh_shape
from gshard_mt.serve.limits import Limits

_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.", required=True)
_STEP = flags.DEFINE_string(
    "step",
    "latest",
    "Which checkpoint: a step, latest, best (by train.best_by), or average: the mean of all kept.",
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen at; 0.0.0.0 is all.")
_PORT = flags.DEFINE_integer("port", 8000, "The port; 0 is any free one.", 0, 65535)
_MAX_WAITING = flags.DEFINE_integer(
    "max_waiting", Limits.max_waiting, "Sentences in the queue; with more, clients get 503.", 1
)
_REQUEST_SECONDS = flags.DEFINE_float(
    "request_seconds", Limits.request_seconds, "A request that waited so long gets 504.", 0.1
)

# Compiled before the service is ready: sentences of up to 16, 32 and 64 subwords, few and many.
_WARM_UP = tuple(" ".join(["a"] * number) for number in (1, 20, 40))


def main(argv) -> None:
    """Serves until SIGTERM or ctrl-C."""
    del argv
    from gshard_mt.run.directory import read_run

    workdir = pathlib.Path(_WORKDIR.value)
    run = read_run(workdir)

    keep_buffers(largest_weight(run.config))
    from gshard_mt.serve.app import build_app
    from gshard_mt.serve.batcher import Batcher
    from gshard_mt.serve.service import Service, address_of, open_socket

    listener = open_socket(_HOST.value, _PORT.value)  # refused before a model is loaded
    from gshard_mt.decode.translate import FEW, load_translator
    from gshard_mt.partitioning import mesh

    use_cache(workdir)
    mesh.simulate_cpu_devices(run.config.mesh.num_cpu_devices)
    grid = mesh.build_mesh(*decoding_mesh_shape(run.config))
    translator = load_translator(workdir, run.config, _STEP.value, grid)
    limits = Limits(
        max_waiting=_MAX_WAITING.value,
        max_sentences=min(Limits.max_sentences, _MAX_WAITING.value),
        request_seconds=_REQUEST_SECONDS.value,
    )
    batcher = Batcher(translator.translate, translator.batch_size, limits)
    service = Service(build_app(run, translator.step, batcher, limits), batcher, limits)
    languages = f"{len(run.train_pairs)} languages"
    print(f"serving     {address_of(listener)} (step {translator.step}, {languages})", flush=True)
    warm_up = [[text] * number for text in _WARM_UP for number in (1, FEW + 1)]
    sys.exit(128 + service.serve_on(listener, warm_up))


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
