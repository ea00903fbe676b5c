"""Beam search in slow Python: every prefix is decoded anew, one sentence after another."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# prefixes, each a list of ids without BOS -> log-probabilities of the next id, [prefixes, V]
NextLogP = Callable[[list[list[int]]], np.ndarray]


class Hypothesis(NamedTuple):
    score: float  # log-probability, over the length penalty once it is a result
    ids: list[int]


def beam_search(
    next_log_p: NextLogP, beam_size: int, alpha: float, eos_id: int, limit: int
) -> tuple[list[Hypothesis], bool]:
    """The results of one sentence, best first, and whether they are finished ones."""
    live, finished = [Hypothesis(0.0, [])], []
    for position in range(limit):
        log_p_WV = next_log_p([hypothesis.ids for hypothesis in live])
        candidates = [
            Hypothesis(hypothesis.score + float(log_p), [*hypothesis.ids, token])
            for hypothesis, log_p_V in zip(live, log_p_WV, strict=True)
            for token, log_p in enumerate(log_p_V)
        ]
        candidates = best(candidates, 2 * beam_size)
        for score, ids in candidates[:beam_size]:
            if ids[-1] == eos_id:
                finished.append(Hypothesis(score / penalty(position + 1, alpha), ids))
        finished = best(finished, beam_size)
        live = [hypothesis for hypothesis in candidates if hypothesis.ids[-1] != eos_id]
        live = live[:beam_size]
        if len(finished) == beam_size:
            break
    if finished:
        return finished, True
    return [Hypothesis(score / penalty(limit, alpha), ids) for score, ids in live], False


def greedy(next_log_p: NextLogP, eos_id: int, limit: int) -> list[int]:
    """The most probable id, again and again."""
    ids: list[int] = []
    while len(ids) < limit and eos_id not in ids:
        ids.append(int(np.argmax(next_log_p([ids])[0])))
    return ids


def penalty(length: int, alpha: float) -> float:
    """The length penalty of Wu et al. 2016, equation 14."""
    return ((5 + length) / 6) ** alpha


def best(hypotheses: list[Hypothesis], num: int) -> list[Hypothesis]:
    """The `num` best; of equals the first."""
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[:num]
