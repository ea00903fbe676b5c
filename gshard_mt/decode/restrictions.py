"""Restrictions of a search: subwords that may not come next, and forced beginnings."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gshard_mt.config.records import DecodeConfig
from gshard_mt.data.tokenizer import Tokenizer, eos_id


class Request(NamedTuple):
    """What is asked of each sentence, as arrays; round Q of a row is its Q-th sentence."""

    limit_BQ: Any  # most ids; 0 where there is no sentence
    num_beams_BQ: Any
    length_penalty_BQ: Any
    prefix_BQT: Any  # ids that the translation begins with, then zeros; T may be 0


class Restrictions:
    """The rules of `decode.no_repeat_ngram`, `no_stutter`, `min_length`, `repetition_penalty`.

    `starts_word_V` tells which subwords begin a word.
    """

    def __init__(self, config: DecodeConfig, starts_word_V: np.ndarray):
        self._config, self.starts_word_V = config, starts_word_V
        self._has_rules = bool(
            config.no_repeat_ngram
            or config.no_stutter
            or config.min_length
            or config.repetition_penalty != 1.0
        )

    def apply(
        self,
        logits_BWV: jax.Array,
        ids_BWT: jax.Array,
        position_B: jax.Array,
        prefix_BT: jax.Array,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Returns the logits of all subwords and of those that may come next, else -inf.

        `ids_BWT` has `position_B` ids so far. The repetition penalty changes all logits, so that
        probabilities are those of the changed ones; the other rules leave probabilities as they
        are. None instead of the second array: every subword may come next.
        """
        if not self._has_rules and not prefix_BT.shape[1]:
            return logits_BWV, None
        index_BWT = (*jnp.indices(ids_BWT.shape)[:2], ids_BWT)
        if self._config.repetition_penalty != 1.0:
            is_written_BWT = jnp.broadcast_to(
                (jnp.arange(ids_BWT.shape[2]) < position_B[:, None])[:, None], ids_BWT.shape
            )
            logits_BWV = self._penalize(logits_BWV, index_BWT, is_written_BWT)
        allowed_BWV = logits_BWV
        if self._config.no_repeat_ngram or self._config.no_stutter:
            is_barred_BWT = self._find_repetitions(ids_BWT, position_B)
            allowed_BWV = allowed_BWV.at[index_BWT].min(jnp.where(is_barred_BWT, -jnp.inf, jnp.inf))
        if self._config.min_length:
            is_early_B = position_B < self._config.min_length
            end_BW = jnp.where(is_early_B[:, None], -jnp.inf, allowed_BWV[:, :, eos_id])
            allowed_BWV = allowed_BWV.at[:, :, eos_id].set(end_BW)
        if prefix_BT.shape[1]:
            allowed_BWV = _force(prefix_BT, position_B, logits_BWV, allowed_BWV)
        return logits_BWV, allowed_BWV

    def _penalize(self, logits_BWV, index_BWT, is_written_BWT: jax.Array) -> jax.Array:
        """Makes written subwords less probable (Keskar et al. 2019, section 4.1)."""
        penalty = self._config.repetition_penalty
        is_written_BWV = jnp.zeros(logits_BWV.shape, bool).at[index_BWT].max(is_written_BWT)
        less_BWV = jnp.where(logits_BWV > 0, logits_BWV / penalty, logits_BWV * penalty)
        return jnp.where(is_written_BWV, less_BWV, logits_BWV)

    def _find_repetitions(self, ids_BWT: jax.Array, position_B: jax.Array) -> jax.Array:
        """Tells for each id so far whether it would complete a repetition if it came next.

        After n - 1 ids that are equal to those before an earlier id, this id would complete an
        n-gram that is there already. It stutters if that n-gram is the last one and begins a word.
        """
        step_T = jnp.arange(ids_BWT.shape[2])
        starts_word_BWT = jnp.asarray(self.starts_word_V)[ids_BWT]
        is_barred_BWT = jnp.zeros(ids_BWT.shape, bool)
        is_same_BWT = jnp.broadcast_to((step_T < position_B[:, None])[:, None], ids_BWT.shape)
        for n in range(1, max(self._config.no_repeat_ngram, self._config.no_stutter) + 1):
            if n > 1:
                last_B11 = jnp.maximum(position_B - n + 1, 0)[:, None, None]
                last_BW1 = jnp.take_along_axis(ids_BWT, last_B11, axis=2)
                is_same_BWT &= (_shift(ids_BWT, n - 1) == last_BW1) & (step_T >= n - 1)
            if n == self._config.no_repeat_ngram:
                is_barred_BWT |= is_same_BWT
            if n <= self._config.no_stutter:
                is_before_BT = step_T == (position_B - n)[:, None]
                begins_BWT = _shift(starts_word_BWT, n - 1)
                is_barred_BWT |= is_same_BWT & is_before_BT[:, None] & begins_BWT
        return is_barred_BWT


def read_word_starts(tokenizer: Tokenizer) -> np.ndarray:
    """Tells for each English subword whether it begins a word: bool per id."""
    return np.array([piece.startswith("▁") for piece in tokenizer.pieces[1]])


def _shift(array_BWT: jax.Array, num: int) -> jax.Array:
    """Moves what is on axis T to later places; zeros come first."""
    num = min(num, array_BWT.shape[2])
    return jnp.pad(array_BWT, ((0, 0), (0, 0), (num, 0)))[:, :, : array_BWT.shape[2]]


def _force(prefix_BT, position_B, logits_BWV: jax.Array, allowed_BWV: jax.Array) -> jax.Array:
    """Allows only the prefix's next id until the prefix ends, whatever the other rules say."""
    place_B1 = jnp.minimum(position_B, prefix_BT.shape[1] - 1)[:, None]
    id_B = jnp.take_along_axis(prefix_BT, place_B1, axis=1)[:, 0]
    is_forced_B = (position_B < prefix_BT.shape[1]) & (id_B != 0)
    is_next_BV = jnp.arange(logits_BWV.shape[2]) == id_B[:, None]
    forced_BWV = jnp.where(is_next_BV[:, None], logits_BWV, -jnp.inf)
    return jnp.where(is_forced_B[:, None, None], forced_BWV, allowed_BWV)
