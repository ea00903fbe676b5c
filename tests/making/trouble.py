"""A corpus with planted trouble: good pairs, given test sets, and every kind of dirt, counted."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gshard_mt.config.records import DataConfig
from tests.making.made_up import write_recipe
from tests.making.phrases import NUM_SENTENCES, sentence

GOOD = {"de": 1900, "fr": 1500, "ru": 1200, "es": 1000, "fo": 400}
_TEST = {"de": 300, "fr": 250, "ru": 200, "es": 200, "fo": 50}  # each is leaked once
_NUM_DEV = 20
_COPIES = {"de": 350, "fr": 250, "ru": 200, "es": 150, "fo": 50}  # exact, and as many near ones
_IDENTIFIED = ("de", "fr", "ru", "es")  # a language identifier knows these
_NUM_SWAPPED, _NUM_WRONG = 50, 50  # in each of these
_NUM_CONTROL, _NUM_LONG = 40, 10  # in every language
_LONG_BYTES = 100_000

Sentences = tuple[str, str]
# Where a line is wrong in two ways, either reason is right.
Reasons = tuple[str, ...]
HELD_OUT, LANGUAGE = ("held_out",), ("language", "script")

_CONTROLS = "\x01\x07\x08\x0e\x1b\x7f\x9b"
_DISGUISES: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.lower,
    str.title,
    lambda text: "  " + text.replace(" ", "   ") + " ",
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.replace(" ", " \u2009"),
    lambda text: text.removesuffix("."),
    lambda text: f"«{text.removesuffix('.')}!»",
    lambda text: "- " + text.replace(" ", ", ", 1) + "..",
)


@dataclass
class Trouble:
    """What was written, by pair; `drops` counts plants by the reasons that are right for them."""

    config: DataConfig
    good: dict[str, list[Sentences]] = field(default_factory=lambda: defaultdict(list))
    drops: dict[str, Counter[Reasons]] = field(default_factory=lambda: defaultdict(Counter))
    num_read: Counter[str] = field(default_factory=Counter)
    held_out: set[str] = field(default_factory=set)  # every sentence of a dev or test set


def write_trouble(folder: pathlib.Path) -> Trouble:
    """Writes a recipe with train, dev and test of five languages; returns what is in it.

    No two good pairs share a sentence, and no plant shares one but with what it copies.
    """
    numbers = list(range(NUM_SENTENCES))
    random.Random(0).shuffle(numbers)
    fresh = iter(numbers)
    trouble = Trouble(DataConfig(recipe=str(folder / "recipe.toml")))
    lines: dict[tuple[str, str], list[Sentences]] = defaultdict(list)
    tested: list[tuple[str, int]] = []
    for language, num_good in GOOD.items():
        trouble.good[f"{language}-en"] = [_pair(next(fresh), language) for _ in range(num_good)]
        lines[language, "train"] += trouble.good[f"{language}-en"]
        lines[language, "dev"] += [_pair(next(fresh), language) for _ in range(_NUM_DEV)]
        tested += [(language, next(fresh)) for _ in range(_TEST[language])]
    for language, number in tested:
        lines[language, "test"].append(_pair(number, language))
    for language, reasons, pair in [
        *_leaks(tested),
        *_copies(trouble.good),
        *_wrong_languages(fresh),
        *_dirt(fresh),
    ]:
        lines[language, "train"].append(pair)
        trouble.drops[f"{language}-en"][reasons] += 1
    corpora = []
    for (language, split), pairs in lines.items():
        path = folder / f"{language}.{split}.tsv"
        path.write_bytes("".join(f"{source}\t{english}\n" for source, english in pairs).encode())
        corpora.append(
            {"language": language, "split": split, "source": f"tsv:{path.name}", "license": "CC0"}
        )
        trouble.num_read[f"{language}-en"] += len(pairs)
        if split != "train":
            trouble.held_out.update(text for pair in pairs for text in pair)
    write_recipe(folder, corpora)
    return trouble


Plants = Iterator[tuple[str, Reasons, Sentences]]  # language whose training text it is put in


def _pair(number: int, language: str) -> Sentences:
    return sentence(number, language), sentence(number, "en")


def _leaks(tested: list[tuple[str, int]]) -> Plants:
    """Yields each sentence of a test set once, in disguise: as a pair, or one side of it."""
    languages = list(GOOD)
    for index, (language, number) in enumerate(tested):
        disguise = _DISGUISES[index % len(_DISGUISES)]
        source, english = map(disguise, _pair(number, language))
        otherwise = sentence(number, "en", is_reordered=True)
        # Kinds in tenths: they go through all disguises, as 10 and 9 share no factor.
        kind = index % 10
        if kind < 3:
            yield language, HELD_OUT, (source, english)
        elif kind < 6:
            other = languages[(languages.index(language) + 1 + index % 4) % len(languages)]
            yield other, HELD_OUT, (sentence(number, other), english)
        elif kind < 8 or language == "fo":
            yield language, HELD_OUT, (source, otherwise)
        else:
            # A test's source among another language's training text is also in a wrong language.
            yield "fo", (*HELD_OUT, *LANGUAGE), (source, otherwise)


def _copies(good: dict[str, list[Sentences]]) -> Plants:
    for language, num_copies in _COPIES.items():
        pairs = good[f"{language}-en"]
        for pair in pairs[:num_copies]:
            yield language, ("duplicate",), pair
        near: list[Sentences] = []
        for index, (source, english) in enumerate(pairs[::-1]):
            digits = source.replace("1975", "1982").replace("14", "15")
            if index % 3 == 0 and digits != source:
                english = english.replace("1975", "1982").replace("14", "15")
                near.append((digits, english))
            elif index % 3:
                disguise = _DISGUISES[index % len(_DISGUISES)]
                copy = disguise(source), disguise(english)
                # Spaces alone make no other text: after cleaning these are exact duplicates.
                if tuple(" ".join(side.split()) for side in copy) != (source, english):
                    near.append(copy)
        assert len(near) >= num_copies
        for pair in near[:num_copies]:
            yield language, ("near_duplicate",), pair


def _wrong_languages(fresh: Iterator[int]) -> Plants:
    for language in _IDENTIFIED:
        for _ in range(_NUM_SWAPPED):
            source, english = _pair(next(fresh), language)
            yield language, ("swapped",), (english, source)
        others = [other for other in _IDENTIFIED if other != language]
        for index in range(_NUM_WRONG):
            number, other = next(fresh), others[index % len(others)]
            source, english = _pair(number, language)
            if index % 4 == 0:
                yield language, LANGUAGE, (source, sentence(number, other))
            else:
                yield language, LANGUAGE, (sentence(number, other), english)


def _dirt(fresh: Iterator[int]) -> Plants:
    for language in GOOD:
        for index in range(_NUM_CONTROL):
            sides = list(_pair(next(fresh), language))
            place, side = 3 + index % 11, index % 2
            control = _CONTROLS[index % len(_CONTROLS)]
            sides[side] = sides[side][:place] + control + sides[side][place:]
            yield language, ("control_characters",), (sides[0], sides[1])
        for _ in range(_NUM_LONG):
            source, english = _pair(next(fresh), language)
            times = 1 + _LONG_BYTES // len(english)
            yield language, ("too_long",), (" ".join([source] * times), " ".join([english] * times))
