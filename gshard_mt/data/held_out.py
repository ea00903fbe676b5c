"""Held-out sets: English strings that no language trains on, drawn where languages are small."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gshard_mt.data.cleaning import num_words, placeholders
from gshard_mt.data.dedup import overlap_key, seeded_order

Sentences = tuple[str, str]  # source, English

_MIN_WORDS = 2  # a held-out English sentence has so many words, and rather one more
_MAX_SHARE = 3  # at most a third of a language's pairs is held out


@dataclass
class HeldOut:
    """English strings (as overlap keys) of each held-out split, over all languages."""

    keys: dict[str, set[str]] = field(default_factory=lambda: {"test": set(), "dev": set()})

    def split_of(self, key: str) -> str | None:
        """Returns the split that holds an English string."""
        return next((split for split, keys in self.keys.items() if key in keys), None)


def choose_held_out(
    pairs: Mapping[str, Sequence[Sentences]],
    wanted: Mapping[str, Mapping[str, int]],
    given: Mapping[str, set[str]],
    seed: int,
) -> HeldOut:
    """Draws English strings until each language has `wanted[language][split]` pairs with them.

    The smallest language draws first, and rather strings that many larger ones have: these then
    need few of their own, and little is lost to training. `given` are the keys of ready-made
    splits. A language gives at most a third of its pairs.
    """
    held_out = HeldOut()
    for split, keys in given.items():
        held_out.keys[split] |= keys
    candidates = {language: _candidates(pairs[language]) for language in wanted}
    languages = sorted(wanted, key=lambda language: (len(pairs[language]), language))
    has_drawn: Counter[str] = Counter()  # languages that have a string and have drawn already
    has_string = Counter(key for keys in candidates.values() for key in keys)
    for language in languages:
        english = candidates[language]
        order = sorted(
            english,
            key=lambda key: (
                num_words(english[key]) <= _MIN_WORDS,
                2 * has_drawn[key] - has_string[key],
                seeded_order(key, seed),
            ),
        )
        most = len(pairs[language]) // (2 * _MAX_SHARE)
        for split, num_wanted in wanted[language].items():
            has = sum(key in held_out.keys[split] for key in english)
            missing = min(num_wanted, most) - has
            free = [key for key in order if held_out.split_of(key) is None]
            held_out.keys[split].update(free[: max(0, missing)])
        has_drawn.update(english.keys())
    return held_out


def take_held_out(
    pairs: Sequence[Sentences], keys: set[str], num_wanted: int, seed: int
) -> list[Sentences]:
    """Returns up to `num_wanted` pairs whose English is held out: one per English string."""
    chosen: dict[str, Sentences] = {}
    for pair in sorted(pairs, key=lambda pair: seeded_order("\t".join(pair), seed)):
        key = overlap_key(pair[1])
        if key in keys and is_testable(pair[1]):
            chosen.setdefault(key, pair)
    return list(chosen.values())[:num_wanted]


def is_testable(english: str) -> bool:
    """Tells whether a string is a test of translation: words, and nothing a model just copies."""
    return num_words(english) >= _MIN_WORDS and not placeholders(english)


def _candidates(pairs: Sequence[Sentences]) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, english in pairs:
        if is_testable(english):
            found.setdefault(overlap_key(english), english)
    return found
