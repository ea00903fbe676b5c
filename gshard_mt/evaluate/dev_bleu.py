"""BLEU during training, on a sample of the dev sentences, translated greedily."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from gshard_mt.config.records import Config
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.decode.translate import Translator
from gshard_mt.errors import ConfigError
from gshard_mt.evaluate.scores import corpus_bleu
from gshard_mt.evaluate.test_sets import held_out


def make_dev_bleu(config: Config, prepared: Prepared, mesh: Mesh) -> Callable[[Any], dict]:
    """Returns a function from parameters to the BLEU of each language pair's dev sample.

    A sample has `train.bleu_sentences` sentences. Parameters may be on the training mesh; `mesh` is
    used for translating. Raises DataError if no language pair has dev sentences, ConfigError for
    several processes, none of which sees all sentences.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"config.train.bleu_every: found {config.train.bleu_every} with "
            f"{jax.process_count()} processes, accepted: 0; gshard-eval --split dev measures it"
        )
    dev = held_out(prepared, "dev").pairs
    sample = {pair: _spread(lines, config.train.bleu_sentences) for pair, lines in dev.items()}
    greedy = dataclasses.replace(config, decode=dataclasses.replace(config.decode, beam_size=1))
    translator = Translator(greedy, load_tokenizer(prepared.directory), mesh)
    placed = jax.tree.map(lambda like: like.sharding, translator.blueprint.params)
    sources = [source for lines in sample.values() for source, _ in lines]

    def measure(params: Any) -> dict[str, float]:
        translator.params = jax.device_put(params, placed)
        english = iter(translator.translate(sources))
        del translator.params  # the next training step donates its buffers
        return {
            pair: corpus_bleu([next(english) for _ in lines], [reference for _, reference in lines])
            for pair, lines in sample.items()
        }

    return measure


def _spread(lines: Sequence[tuple[str, str]], num: int) -> list[tuple[str, str]]:
    """Returns `num` evenly spaced lines, or all if there are fewer."""
    num = min(num, len(lines))
    return [lines[(2 * i + 1) * len(lines) // (2 * num)] for i in range(num)]
