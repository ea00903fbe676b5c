"""Synthetic parallel text of any size: pairs joined from the phrases of a real catalogue.

Words and order are real on both sides, so that language identification, scripts and subwords see
what they would see in real text; sentences are as long and sizes as skewed as real ones.
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.clean import normalize
from gshard_mt.data.cleaning.fold import fold
from gshard_mt.data.cleaning.placeholders import placeholders
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.data.corpora.wheel import read_wheel
from gshard_mt.languages import language_code

BLOCK = 50_000  # pairs made at once
DUPLICATE_RATE, NEAR_DUPLICATE_RATE = 0.03, 0.02
_NUMBER_RATE = 0.15  # sentences that end with a number
_MIN_PAIRS = 100  # of the smallest language
_SPREAD = 0.5  # sigma of the logarithm of a sentence's length
_WHEEL = pathlib.Path(__file__).parents[1] / "data" / "home_assistant_smoke.toml"


class Phrases(NamedTuple):
    """Short texts of a language beside their English, in one order."""

    source: tuple[str, ...]
    english: tuple[str, ...]


def read_phrases(num_languages: int) -> dict[str, Phrases]:
    """Returns the languages of the Home Assistant wheel that have most phrases, largest first.

    The wheel is fetched into the user's cache where it isn't there yet. What a filter might take
    for dirt is left out: placeholders, tags, other numbers on the two sides, untranslated text.
    """
    entry = dataclasses.replace(load_recipe(_WHEEL).entries[0], languages=("*",))
    phrases: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for pair in read_wheel(entry):
        source, english = normalize(pair.source), normalize(pair.english)
        if _is_plain(source, english):
            key = fold(source)
            phrases[language_code(pair.language)].setdefault(key, (source, english))
    largest = sorted(phrases, key=lambda language: (-len(phrases[language]), language))
    return {
        language: Phrases(*zip(*phrases[language].values(), strict=True))
        for language in largest[:num_languages]
    }


def language_sizes(num_pairs: int, num_languages: int) -> list[int]:
    """Returns D_l ~ 1 / rank, which add up to `num_pairs`; none below 100 where these suffice."""
    floor = min(_MIN_PAIRS, num_pairs // num_languages)
    weights = 1 / np.arange(1, num_languages + 1)
    sizes = floor + (weights / weights.sum() * (num_pairs - floor * num_languages)).astype(int)
    sizes[0] += num_pairs - sizes.sum()
    return sizes.tolist()


def generate_lines(phrases: Phrases, num_pairs: int, words: float, seed: int) -> Iterator[str]:
    """Yields blocks of lines, source TAB English, about `words` English words a line.

    The same arguments give the same text. About 3% of the pairs of a block are there twice, and
    about 2% once more in capitals, with other punctuation.
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
                place = int((copy - DUPLICATE_RATE) * len(lines) / NEAR_DUPLICATE_RATE)
                lines.append(_disguise(lines[place]))
            else:
                picks = chosen[begin:end]
                source = " ".join([sources[pick] for pick in picks])
                lines.append(f"{source}\t{' '.join([english[pick] for pick in picks])}\n")
            begin = end
        yield "".join(lines)


def write_corpus(
    folder: pathlib.Path, phrases: dict[str, Phrases], sizes: Sequence[int], words: float
) -> pathlib.Path:
    """Writes a .tsv a language and the recipe that names them; returns the recipe's path."""
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
        and fold(source) != fold(english)
        and not placeholders(both)
        and not re.search(r"[<>{}\[\]%&@#*_|\\`]|://", both)
        and re.findall(r"\d+", source) == re.findall(r"\d+", english)
        and len(english.split()) <= 12
    )


def _disguise(line: str) -> str:
    source, english = line[:-1].split("\t")
    return f"{source}!\t{english.upper()}!\n"
