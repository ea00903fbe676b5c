"""Dev sentences translated greedily during training: BLEU of a sample, and some to be read."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from gshard_mt.config.records import Config
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.decode.batching import SHORTEST_BUCKET
from gshard_mt.decode.translate import Translator
from gshard_mt.evaluate.scores import corpus_bleu
from gshard_mt.evaluate.test_sets import held_out

Lines = Sequence[tuple[str, str]]  # sources and references


class DevTranslator:
    """Translates dev sentences greedily with the parameters of a run while it trains.

    Parameters may be on the training mesh; `mesh` is used for translating, by all processes
    together.
    """

    def __init__(self, config: Config, prepared: Prepared, mesh: Mesh):
        """Raises DataError if no language pair has dev sentences."""
        greedy = dataclasses.replace(config, decode=dataclasses.replace(config.decode, beam_size=1))
        self._translator = Translator(greedy, load_tokenizer(prepared.directory), mesh)
        params = self._translator.blueprint.params
        self._placed = jax.tree.map(lambda like: like.sharding, params)
        dev, num = held_out(prepared, "dev").pairs, config.train.bleu_sentences
        self._sample = {pair: _spread(lines, num) for pair, lines in dev.items()}
        self._shown = self._choose_shown(self._sample, config.train.sample_translations)

    def bleu(self, params: Any) -> dict[str, float]:
        """Returns the BLEU of each language pair's sample, `train.bleu_sentences` sentences."""
        sources = [source for lines in self._sample.values() for source, _ in lines]
        english = iter(self._translate(params, sources))
        return {
            pair: corpus_bleu([next(english) for _ in lines], [reference for _, reference in lines])
            for pair, lines in self._sample.items()
        }

    def show(self, params: Any) -> list[str]:
        """Returns lines about the translations of `train.sample_translations` fixed sentences."""
        found = self._translate(params, [source for _, source, _ in self._shown])
        return [
            line
            for (pair, source, reference), hypothesis in zip(self._shown, found, strict=True)
            for line in (
                f"source      {pair}: {source}",
                f"reference   {reference}",
                f"hypothesis  {hypothesis}",
            )
        ]

    def _choose_shown(self, dev: Mapping[str, Lines], num: int) -> list[tuple[str, str, str]]:
        """Returns sentences of as many pairs as possible, short ones: one program is enough."""
        every = [(pair, *line) for pair, lines in dev.items() for line in lines]
        encoded = self._translator.tokenizer.encode_source([source for _, source, _ in every])
        short = list(itertools.compress(every, (len(ids) < SHORTEST_BUCKET for ids in encoded)))
        return _spread(short if len(short) >= num else every, num)

    def _translate(self, params: Any, sources: Sequence[str]) -> list[str]:
        self._translator.params = jax.device_put(params, self._placed)
        english = self._translator.translate(sources)
        del self._translator.params  # the next training step donates its buffers
        return english


def _spread(lines: Sequence[Any], num: int) -> list[Any]:
    """Returns `num` evenly spaced lines, or all if there are fewer."""
    num = min(num, len(lines))
    return [lines[(2 * i + 1) * len(lines) // (2 * num)] for i in range(num)]
