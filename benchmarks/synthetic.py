"""Synthetic parallel text of any size, joined from the phrases of a real catalogue.

The words and their order are real on both sides, so language identification, script checks and
subwords behave as on real text; sentence lengths and corpus sizes are distributed as in real data.
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.clean import normalize_all
from gshard_mt.data.cleaning.fold import fold_all
from gshard_mt.data.cleaning.placeholders import placeholders
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.data.corpora.wheel import read_wheel
from gshard_mt.languages import language_code

BLOCK = 50_000  # pairs generated at once
DUPLICATE_RATE, NEAR_DUPLICATE_RATE = 0.03, 0.02
_NUMBER_RATE = 0.15  # share of sentences that end with a number
_MIN_PAIRS = 100  # of the smallest language
_SPREAD = 0.5  # sigma of the logarithm of a sentence's length
_WHEEL = pathlib.Path(__file__).parents[1] / "data" / "home_assistant_smoke.toml"


class Phrases(NamedTuple):
    """Phrases of a language and their English translations, in the same order."""

    source: tuple[str, ...]
    english: tuple[str, ...]


def read_phrases(num_languages: int) -> dict[str, Phrases]:
    """Returns the languages of the Home Assistant wheel with the most phrases, largest first.

    The wheel is downloaded to the user's cache if it isn't there yet. Phrases that a filter might
    drop are left out: placeholders, tags, differing numbers, untranslated text.
    """
    entry = dataclasses.replace(load_recipe(_WHEEL).entries[0], languages=("*",))
    pairs = list(read_wheel(entry))
    sources = normalize_all([pair.source for pair in pairs])
    english = normalize_all([pair.english for pair in pairs])
    folded = zip(fold_all(sources), fold_all(english), strict=True)
    phrases: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for pair, *sides, (key, other) in zip(pairs, sources, english, folded, strict=True):
        if key != other and _is_plain(*sides):
            phrases[language_code(pair.language)].setdefault(key, (sides[0], sides[1]))
    largest = sorted(phrases, key=lambda language: (-len(phrases[language]), language))
    return {
        language: Phrases(*zip(*phrases[language].values(), strict=True))
        for language in largest[:num_languages]
    }


def language_sizes(num_pairs: int, num_languages: int) -> list[int]:
    """Returns sizes D_l ~ 1 / rank that add up to `num_pairs`; at least 100 each if possible."""
    floor = min(_MIN_PAIRS, num_pairs // num_languages)
    weights = 1 / np.arange(1, num_languages + 1)
    sizes = floor + (weights / weights.sum() * (num_pairs - floor * num_languages)).astype(int)
    sizes[0] += num_pairs - sizes.sum()
    return sizes.tolist()


def generate_lines(phrases: Phrases, num_pairs: int, words: float, seed: int) -> Iterator[str]:
    """Yields blocks of lines, source TAB English, with about `words` English words per line.

    The same arguments give the same text. About 3% of the pairs of a block are duplicates, and
    about 2% near duplicates: in capitals, with other punctuation.
    """
    random = np.random.default_rng(seed)
    num_phrases = len(phrases.source)
    numbers = [str(number) for number in range(2, 10_000)]
    sources, english = [*phrases.source, *numbers], [*phrases.english, *numbers]
    mean_words = np.mean([len(text.split()) for text in phrases.english])
    mu = np.log(words / mean_words) - _SPREAD**2 / 2  # the mean of a lognormal is above exp(mu)
    for start in range(0, num_pairs, BLOCK):
        count = min(BLOCK, num_pairs - start)
        copies = random.random(count)
        lengths = np.maximum(2, np.round(random.lognormal(mu, _SPREAD, count))).astype(int)
        has_number = random.random(count) < _NUMBER_RATE
        ends = np.cumsum(lengths + has_number)
        chosen = random.integers(num_phrases, size=ends[-1])
        is_last = ends[has_number] - 1
        chosen[is_last] = num_phrases + random.integers(len(numbers), size=len(is_last))
        chosen = chosen.tolist()
        lines: list[str] = []
        begin = 0
        for end, copy in zip(ends.tolist(), copies.tolist(), strict=True):
            if copy < DUPLICATE_RATE and lines:
                lines.append(lines[int(copy * len(lines) / DUPLICATE_RATE)])
            elif copy < DUPLICATE_RATE + NEAR_DUPLICATE_RATE and lines:
                index = int((copy - DUPLICATE_RATE) * len(lines) / NEAR_DUPLICATE_RATE)
                lines.append(_disguise(lines[index]))
            else:
                picks = chosen[begin:end]
                source = " ".join([sources[pick] for pick in picks])
                lines.append(f"{source}\t{' '.join([english[pick] for pick in picks])}\n")
            begin = end
        yield "".join(lines)


def write_corpus(
    folder: pathlib.Path, phrases: dict[str, Phrases], sizes: Sequence[int], words: float
) -> pathlib.Path:
    """Writes one .tsv per language and a recipe for them; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = ['name = "synthetic"\n']
    for seed, ((language, texts), size) in enumerate(zip(phrases.items(), sizes, strict=True)):
        with open(folder / f"{language}.tsv", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(generate_lines(texts, size, words, seed))
        tables.append(f'[[corpus]]\nlanguage = "{language}"\nsource = "tsv:{language}.tsv"')
        tables.append('license = "Apache-2.0"\n')
    recipe = folder / "recipe.toml"
    recipe.write_text("\n".join(tables), encoding="utf-8")
    return recipe


def _is_plain(source: str, english: str) -> bool:
    both = source + english
    return (
        any(character.isalpha() for character in source)
        and not placeholders(both)
        and not re.search(r"[<>{}\[\]%&@#*_|\\`]|://", both)
        and re.findall(r"\d+", source) == re.findall(r"\d+", english)
        and len(english.split()) <= 12
    )


def _disguise(line: str) -> str:
    source, english = line[:-1].split("\t")
    return f"{source}!\t{english.upper()}!\n"
