"""Subwords: which ones of another run's vocabulary those of a new run begin as."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gshard_mt.data.tokenizer import Tokenizer, spell_pieces, unk_id
from gshard_mt.errors import ConfigError
from gshard_mt.model.mapping import PieceMap

_LEAST = 0.5  # of the text that must be in subwords with a vector


def map_subwords(
    new: Tokenizer, old: Tokenizer, origin: str, run: str
) -> tuple[dict[str, PieceMap], list[str]]:
    """Returns for each side how its new vectors are made of old ones, and lines that tell the user.

    Nothing is mapped if the tokenizers are the same. `origin` names the old parameters, `run` the
    directory with the old tokenizer. Raises ConfigError if too little of the new text has vectors
    that mean anything:

    - Half of the English, which the decoder writes, must be in subwords that are the same. Of two
      tokenizers trained on English of different domains, about 80% is; on English and German, 35%.
    - Half of the source must be in subwords that are the same or are spelled by old ones. That is
      so in the same script, and not in another, which the old tokenizer spells in bytes.

    A tokenizer that has all old subwords is an extension of the old one, and may add any number.
    The shares are those that the new tokenizer expects by the probabilities of its subwords.
    """
    if new.hash == old.hash:
        return {}, []
    maps, lines = {}, []
    for side in ("source", "target"):
        models = getattr(new, side), getattr(old, side)
        spelled = spell_pieces(*models)
        maps[side] = _mean_of(spelled)
        same, means, in_bytes = _split(spelled, *models)
        frequency = _frequencies(models[0])
        same_share, means_share = (frequency[ids].sum() for ids in (same, means))
        lines.append(
            f"{side} subwords: {len(same):,} of {len(spelled):,} have a vector "
            f"({same_share:.0%} of the text); {len(means):,} begin as the mean of those that spell "
            f"them, {len(in_bytes):,} as the mean of bytes"
        )
        share = same_share if side == "target" else same_share + means_share
        if share < _LEAST and not _has_all(*models):
            what = "" if side == "target" else " or are spelled by others that have one"
            raise ConfigError(
                f"--init_from: {origin} has other {side} subwords: those that have a vector there"
                f"{what} make up {share:.0%} of the text, accepted: {_LEAST:.0%} or more; prepare "
                f"the data with data.extend_tokenizer={run} (or data.tokenizer)"
            )
    return maps, lines


def _split(spelled: Sequence[Sequence[int]], new: Any, old: Any) -> tuple[list[int], ...]:
    """Returns the new ids that are old ones, that old ones spell, and that bytes spell."""
    same, means, in_bytes = [], [], []
    for id, ids in enumerate(spelled):
        if [old.id_to_piece(each) for each in ids] == [new.id_to_piece(id)]:
            same.append(id)
        elif any(each == unk_id or old.is_byte(each) for each in ids):
            in_bytes.append(id)
        else:
            means.append(id)
    return same, means, in_bytes


def _frequencies(model: Any) -> np.ndarray:
    """Returns the share of each id in the text, 0 of special symbols, bytes and user symbols."""
    scores = [model.get_score(id) for id in range(model.get_piece_size())]
    frequency = np.array([math.exp(score) if score < 0 else 0.0 for score in scores])
    return frequency / max(frequency.sum(), np.finfo(float).tiny)


def _has_all(new: Any, old: Any) -> bool:
    return all(
        new.piece_to_id(old.id_to_piece(id)) != unk_id
        for id in range(unk_id + 1, old.get_piece_size())
    )


def _mean_of(spelled: Sequence[Sequence[int]]) -> PieceMap:
    most = max(map(len, spelled))
    ids = np.zeros((len(spelled), most), np.int32)
    weights = np.zeros((len(spelled), most), np.float32)
    for row, each in enumerate(spelled):
        each = each or [unk_id]
        ids[row, : len(each)] = each
        weights[row, : len(each)] = 1 / len(each)
    return PieceMap(ids, weights)
