"""A vocabulary map lists what occurs together, as a plain count of pairs finds it."""
# SPDX-License-Identifier: Apache-2.0

import collections
import itertools

import numpy as np

from gshard_mt.data.records import Record
from gshard_mt.export.vocabulary_map import VocabularyMap, draw, learn

SIZES = (40, 30)


def made_up(number: int) -> list[Record]:
    """Pairs whose target subwords are, but for noise, those of the source, each minus 10."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(number):
        source = rng.integers(10, SIZES[0], rng.integers(1, 9))
        target = np.append(source - 10, rng.integers(0, SIZES[1], rng.integers(0, 3)))
        found.append(Record(source.astype(np.int32), target.astype(np.int32)))
    return found


def test_candidates_are_those_with_the_largest_dice_coefficients():
    records = made_up(150)
    both, of_source, of_target = (collections.Counter() for _ in range(3))
    for source, target in records:
        pair = set(source.tolist()), set(target.tolist())
        both.update(itertools.product(*pair))
        of_source.update(pair[0])
        of_target.update(pair[1])
    found = learn([records[:70], records[70:71], records[71:]], SIZES)
    assert set(found.candidates) == set(of_source)
    for source, candidates in found.candidates.items():
        dice = {
            t: 2 * n / (of_source[s] + of_target[t]) for (s, t), n in both.items() if s == source
        }
        ranked = sorted(dice, key=lambda t: (-dice[t], t))[:20]
        expected = [t for rank, t in enumerate(ranked) if rank < 5 or both[source, t] > 1]
        assert candidates == expected
        assert source - 10 == candidates[0]
    assert found.common == sorted(of_target, key=lambda t: (-of_target[t], t))


def test_the_file_has_a_line_for_each_source_subword_that_it_can_express():
    found = VocabularyMap([3, 0], {1: [2, 3], 2: [0], 3: []})
    source, target = ["<unk>", "▁ein", "a b", "▁x"], ["▁a", "▁an", "▁one", "."]
    assert found.to_text(source, target) == "\t. ▁a\n▁ein\t▁one .\n▁x\t\n"


def test_every_language_is_read_in_its_share(prepared):
    pairs = ["de-en", "fr-en"]
    whole = {pair: prepared.train_pairs[pair] for pair in pairs}
    assert sum(map(len, draw(prepared, pairs))) == sum(whole.values())
    few = [len(chunk) for chunk in draw(prepared, pairs, sum(whole.values()) // 4)]
    for number, pair in zip(few, pairs, strict=True):
        assert abs(number - whole[pair] / 4) < 2
