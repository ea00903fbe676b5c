"""BLEU while a run trains: a sample of its dev sentences, translated greedily."""
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
    """Returns a function from parameters to each pair's BLEU on `train.bleu_sentences` of its dev.

    Parameters may lie on the mesh of training, this one is that of translating. Raises DataError if
    no pair has dev sentences, ConfigError for many processes, of which none sees all sentences.
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
        del translator.params  # training gives its own away with the next step
        return {
            pair: corpus_bleu([next(english) for _ in lines], [wanted for _, wanted in lines])
            for pair, lines in sample.items()
        }

    return measure


def _spread(lines: Sequence[tuple[str, str]], num: int) -> list[tuple[str, str]]:
    """Returns `num` lines, all if they are fewer, as far from each other as from the ends."""
    num = min(num, len(lines))
    return [lines[(2 * i + 1) * len(lines) // (2 * num)] for i in range(num)]
