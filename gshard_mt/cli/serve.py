"""gshard-serve: translates over HTTP and shows a web page to try the model.

Usage:   gshard-serve --workdir RUN|--model EXPORT [--step STEP] [--host HOST] [--port PORT]
Example: gshard-serve --workdir run --port 8000
         curl -d '{"text": "Guten Tag."}' http://127.0.0.1:8000/translate

Sentences of concurrent requests are translated in common batches. See docs/serving.md.
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import re
import sys

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.pruning import define_pruning
from gshard_mt.cli.startup.start import start_jax
from gshard_mt.errors import ConfigError
from gshard_mt.serve.limits import Limits

_read_folder = cli_flags.define_model()
_STEP = cli_flags.define_step()
_read_pruning = define_pruning()
_set_decode = cli_flags.define_decode()
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
_PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0 for any free one.", 0, 65535)
_MAX_WAITING = flags.DEFINE_integer(
    "max_waiting",
    Limits.max_waiting,
    "Largest number of sentences in the queue; requests beyond it are answered with status 503."
    " A request of more sentences is answered with 413.",
    1,
)
_REQUEST_SECONDS = flags.DEFINE_float(
    "request_seconds",
    Limits.request_seconds,
    "Seconds after which a waiting request is answered with status 504.",
    0.1,
)
_CORS_ORIGIN = flags.DEFINE_multi_string(
    "cors_origin",
    [],
    "Web site whose pages may use the service from a browser, such as https://site.org; * for "
    "all. Without it, only the service's own page may.",
)

# RFC 6454, section 6.2.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]+)?")
# Compiled before the service is ready: sentences of up to 16, 32 and 64 subwords, few and many.
_WARM_UP = tuple(" ".join(["a"] * number) for number in (1, 20, 40))


def main() -> None:
    """Serves until SIGTERM or ctrl-C."""
    from gshard_mt.run.calibration import find_calibration
    from gshard_mt.run.exported import read_trained
    from gshard_mt.run.pruning import pruned

    folder, origins = _read_folder(), _read_origins()
    run = read_trained(folder)
    run = run._replace(config=_set_decode(run.config))
    pruning = _read_pruning(folder, run, _STEP.value)

    start_jax(folder, run.config)
    from gshard_mt.decode.loading import load_translator
    from gshard_mt.decode.sentences import NEVER, Splitter
    from gshard_mt.decode.translate import FEW
    from gshard_mt.serve.app import ServedModel, build_app
    from gshard_mt.serve.batcher import Batcher, Best, Item
    from gshard_mt.serve.service import Service, address_of, open_socket

    listener = open_socket(_HOST.value, _PORT.value)  # refused before a model is loaded
    # The queue has single sentences.
    decode = dataclasses.replace(run.config.decode, split=NEVER)
    single = dataclasses.replace(run.config, decode=decode)
    translator = load_translator(folder, single, _STEP.value, pruning)
    calibration = None
    if not pruning:  # which changes the probabilities
        calibration = find_calibration(folder, translator.name, run.config.decode)
    if pruning:
        run = pruned(run, pruning)
    limits = Limits(
        max_waiting=_MAX_WAITING.value,
        request_seconds=_REQUEST_SECONDS.value,
    )

    def translate(items: list[Item]) -> list[Best]:
        texts, nbest, options = zip(*items, strict=True)
        found = translator.list_best(texts, max(nbest), options=options)
        return [best[:num] for best, num in zip(found, nbest, strict=True)]

    splitter = Splitter(run.config, translator.tokenizer)
    batcher = Batcher(translate, translator.batch_size, limits)
    model = ServedModel(run, translator.step, splitter, calibration)
    app = build_app(model, batcher, limits, origins)
    service = Service(app, batcher, limits)
    languages = f"{len(run.train_pairs)} languages"
    print(f"serving     {address_of(listener)} (step {translator.step}, {languages})", flush=True)
    warm_up = [[Item(text)] * number for text in _WARM_UP for number in (1, FEW + 1)]
    sys.exit(128 + service.serve_on(listener, warm_up))


def _read_origins() -> list[str]:
    """Returns the values of --cors_origin as browsers write them. Raises ConfigError."""
    for origin in _CORS_ORIGIN.value:
        if origin != "*" and not _ORIGIN.fullmatch(origin.lower()):
            raise ConfigError(
                f"--cors_origin: found {origin!r}, accepted: a scheme, a host and perhaps a port, "
                "as in https://site.org or http://localhost:3000, without a path; or *"
            )
    return [_without_default_port(origin.lower()) for origin in _CORS_ORIGIN.value]


def _without_default_port(origin: str) -> str:
    scheme = origin.partition(":")[0]
    return origin.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


entry = cli_flags.command(main)
