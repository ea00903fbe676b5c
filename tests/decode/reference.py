"""Beam search in slow Python: every prefix is decoded from scratch, one sentence at a time."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# prefixes, each a list of ids without BOS -> log-probabilities of the next id, [prefixes, V]
NextLogP = Callable[[list[list[int]]], np.ndarray]


class Hypothesis(NamedTuple):
    score: float  # log-probability, divided by the length penalty in results
    ids: list[int]


def beam_search(
    next_log_p: NextLogP, beam_size: int, alpha: float, eos_id: int, limit: int
) -> tuple[list[Hypothesis], bool]:
    """Returns the hypotheses of one sentence, best first, and whether they are finished."""
    live, finished = [Hypothesis(0.0, [])], []
    greedy: list[int] | None = []  # greedy search's ids so far; None once it is finished
    for position in range(limit):
        log_p_WV = next_log_p([hypothesis.ids for hypothesis in live])
        candidates = [
            Hypothesis(hypothesis.score + float(log_p), [*hypothesis.ids, token])
            for hypothesis, log_p_V in zip(live, log_p_WV, strict=True)
            for token, log_p in enumerate(log_p_V)
            if log_p > -np.inf
        ]
        kept = [each for each in candidates if each.ids[:-1] == greedy]
        kept = best(kept, 1)  # greedy search's own continuation, which is never lost
        candidates = best(candidates, 2 * beam_size)
        ended = [each for each in candidates[:beam_size] if each.ids[-1] == eos_id]
        ended += [each for each in kept if each.ids[-1] == eos_id and each not in ended]
        finished += [Hypothesis(score / penalty(position + 1, alpha), ids) for score, ids in ended]
        finished = best(finished, beam_size)
        live = [hypothesis for hypothesis in candidates if hypothesis.ids[-1] != eos_id]
        live = live[:beam_size]
        if kept and kept[0].ids[-1] != eos_id and kept[0] not in live:
            live = [*live[: beam_size - 1], kept[0]]
        greedy = kept[0].ids if kept and kept[0].ids[-1] != eos_id else None
        if len(finished) == beam_size and greedy is None:
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
    """What the log-probability of a hypothesis is divided by."""
    return length**alpha


def best(hypotheses: list[Hypothesis], num: int) -> list[Hypothesis]:
    """The `num` best; of equals the first."""
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[:num]
