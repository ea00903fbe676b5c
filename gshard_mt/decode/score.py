"""Scores of given translations: the log-probability of each of their subwords, in one pass."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gshard_mt.data.normalization import normalize
from gshard_mt.data.tokenizer import bos_id, eos_id
from gshard_mt.decode.batching import batch_by_length
from gshard_mt.decode.beam import one_sentence_per_row
from gshard_mt.decode.translate import Translator
from gshard_mt.model.layers import contract
from gshard_mt.model.moe import decoding_groups
from gshard_mt.model.transformer import Transformer
from gshard_mt.partitioning.annotate import shard
from gshard_mt.partitioning.hosts import gather, place
from gshard_mt.partitioning.placement import sharding

SCORE = "score"  # what `Translator.announce` is called with before the pairs
_CHUNK = 16  # target positions whose logits exist at a time; divides every length bucket


class PairScore(NamedTuple):
    """What the model says of one pair."""

    tokens: list[str]  # subwords of the target and the end of sentence
    token_scores: list[float]  # log-probability of each in nats, given the source and those before
    truncated: tuple[str, ...] = ()  # the sides that were too long: `source`, `target`

    @property
    def sum(self) -> float:
        """The log-probability of the target."""
        return math.fsum(self.token_scores)

    @property
    def mean(self) -> float:
        """The log-probability per token, by which pairs of different lengths are compared."""
        return self.sum / len(self.token_scores)


class Scorer:
    """The model of a translator, one compiled program per length bucket and number of rows."""

    def __init__(self, translator: Translator):
        self._translator = translator
        self._pieces = translator.tokenizer.pieces[1]
        build = translator.blueprint.build
        self._score = jax.jit(lambda params, *ids: score_tokens(build(params), *ids))

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        on_progress: Callable[[int], Any] = lambda done: None,
    ) -> list[PairScore]:
        """Returns the score of each pair of source and target, in order.

        Both sides are normalized, as the training text was. Of an empty target only the end of the
        sentence is scored; an empty source is one of that symbol alone. Of a source of more than
        `decode.max_source_length` subwords, the end of the sentence counted, the model reads the
        first ones with that end. Of such a target the first ones are scored, without an end.
        """
        if pairs:
            self._translator.announce(SCORE, pairs)
        most = self._translator.config.decode.max_source_length
        tokenizer = self._translator.tokenizer
        sources, targets = (
            encode([normalize(pair[side]) for pair in pairs])
            for side, encode in enumerate((tokenizer.encode_source, tokenizer.encode_target))
        )
        cut_sources = [ids[: most - 1] + [eos_id] for ids in sources]
        cut_targets = [(ids + [eos_id])[:most] for ids in targets]
        scores = self._score_ids(cut_sources, cut_targets, on_progress)
        found = []
        for i, ids in enumerate(cut_targets):
            sides = {"source": sources[i], "target": targets[i]}
            truncated = tuple(name for name, whole in sides.items() if len(whole) >= most)
            found.append(PairScore([self._pieces[id] for id in ids], scores[i], truncated))
        return found

    def _score_ids(
        self,
        sources: list[list[int]],
        targets: list[list[int]],
        on_progress: Callable[[int], Any],
    ) -> list[list[float]]:
        translator, scores = self._translator, [[] for _ in targets]
        lengths = [max(map(len, pair)) for pair in zip(sources, targets, strict=True)]
        for batch in batch_by_length(lengths, translator.num_rows):
            shape_BL = batch.num_rows, batch.bucket
            arrays = []
            with jax.set_mesh(translator.mesh):
                for numbers in batch.rounds:
                    source_BL = self._place([sources[i] for i in numbers], shape_BL)
                    target_BT = self._place([targets[i] for i in numbers], shape_BL)
                    arrays.append(self._score(translator.params, source_BL, target_BT))
            for numbers, score_BT in zip(batch.rounds, gather(arrays), strict=True):
                for i, score_T in zip(numbers, score_BT, strict=False):
                    scores[i] = score_T[: len(targets[i])].tolist()
            on_progress(sum(map(len, batch.rounds)))
        return scores

    def _place(self, rows: list[list[int]], shape_BL: tuple[int, int]) -> jax.Array:
        ids_BL = np.zeros(shape_BL, np.int32)
        for row, ids in enumerate(rows):
            ids_BL[row, : len(ids)] = ids
        return place(ids_BL, sharding(self._translator.mesh, "BL", 2))


def score_tokens(model: Transformer, source_BL: jax.Array, target_BT: jax.Array) -> jax.Array:
    """Returns the log-probability [B, T] of each target id, given its source and the ids before it.

    Each row has one pair; id 0 is padding, of which the values mean nothing. T is a multiple of
    16. Nothing is random, and experts drop no token.
    """
    groups = decoding_groups(model.config)
    source, target = (one_sentence_per_row(shard(x_BL, "BL")) for x_BL in (source_BL, target_BT))
    input_BT = jnp.pad(target_BT[:, :-1], ((0, 0), (1, 0)), constant_values=bos_id)
    memory_BLM, _ = model.encode(source, groups)
    hidden_BTM, _ = model.decode(
        memory_BLM, source.segment_BL, target._replace(id_BL=input_BT), groups
    )

    def score_chunk(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden_BTM, id_BT = chunk
        # In float32, as in the loss: rounded to bfloat16, a logit would be off by some hundredths.
        table_VM = model.softmax_table()
        logits_BTV = contract("BTM,VM->BTV", hidden_BTM, table_VM, jnp.float32)
        log_p_BTV = jax.nn.log_softmax(logits_BTV, axis=-1)
        return jnp.take_along_axis(log_p_BTV, id_BT[:, :, None], axis=2)[:, :, 0]

    score_IBT = jax.lax.map(score_chunk, (_cut(hidden_BTM), _cut(target_BT)))
    return score_IBT.swapaxes(0, 1).reshape(target_BT.shape)


def _cut(x_BT: jax.Array) -> jax.Array:
    """Cuts [B, T, ...] into chunks of positions, [I, B, T / I, ...]."""
    num_rows, num_positions, *others = x_BT.shape
    x_BIT = x_BT.reshape(num_rows, num_positions // _CHUNK, _CHUNK, *others)
    return x_BIT.swapaxes(0, 1)
