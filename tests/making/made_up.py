"""Small corpora, made up, and the settings that fit them."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import itertools
import json
import pathlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from gshard_mt.config.records import CleaningConfig, DataConfig

_WHO = ["the cat", "a dog", "my old friend", "the small bird", "our teacher", "nobody", "the king"]
_DOES = ["sees", "likes", "never finds", "has lost", "carries", "wants to buy", "talks about"]
_WHAT = [
    "the house",
    "a red apple",
    "two books",
    "the long road",
    "an answer",
    "the sea",
    "nothing",
]
_LETTERS = {
    "de": str.maketrans("aeiou", "äöüie"),
    "fr": str.maketrans("aeiou", "éàiuo"),
    "lb": str.maketrans("aeiou", "ëäöyi"),
}
_SIZES = {"de": 343, "fr": 200, "lb": 60}


def english_sentences() -> list[str]:
    return [" ".join(words) for words in itertools.product(_WHO, _DOES, _WHAT)]


def translated(sentence: str, language: str) -> str:
    return sentence.translate(_LETTERS[language]) + " " + language


def write_recipe(folder: pathlib.Path, corpora: Sequence[Mapping[str, Any]]) -> pathlib.Path:
    lines = ['name = "made-up"']
    for corpus in corpora:
        lines += ["[[corpus]]", *(f"{key} = {json.dumps(value)}" for key, value in corpus.items())]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_made_up(folder: pathlib.Path) -> DataConfig:
    """Writes a recipe of three languages of different size; returns settings that fit it."""
    corpora = []
    for language, size in _SIZES.items():
        pairs = [(translated(text, language), text) for text in english_sentences()[:size]]
        content = "".join(f"{source}\t{english}\n" for source, english in pairs)
        (folder / f"{language}.tsv").write_text(content, encoding="utf-8")
        corpora.append(
            {"language": language, "source": f"tsv:{language}.tsv", "license": "CC0-1.0"}
        )
    return DataConfig(
        recipe=str(write_recipe(folder, corpora)),
        source_vocab_size=330,
        target_vocab_size=290,
        source_length=40,
        target_length=32,
        num_dev=15,
        num_test=20,
        temperature=2.0,
        num_workers=1,
        cleaning=CleaningConfig(swapped=False, language=False),  # it is in no language
    )


def write_troubled(folder: pathlib.Path) -> DataConfig:
    """Writes text with all that a pipeline has to deal with.

    Duplicates, near duplicates, dirt, overlap with held-out text, a ready-made test set, locales,
    one file named twice, a language with a test set alone and one of which nothing is left.
    """
    config = write_made_up(folder)
    english = english_sentences()
    dirt = ["\tno source", "same same\tsame same", "ja {a}\tyes {b}", "x" * 2000 + "\tlong"]
    dirt += ["a b\t" + "word " * 60]
    numbers = [f"Zimmer {n} ist hübsch heute\tRoom {n} is nice today" for n in (1, 2, 3, 22)]
    german = _lines("de", english)
    random.Random(0).shuffle(german)
    write_lines(folder / "de.tsv", german[:200] + dirt + german[:50] + numbers)
    write_lines(
        folder / "de_more.tsv", [line.upper() for line in german[:30]] + german[150:] + dirt
    )
    write_lines(folder / "lb.tsv", _lines("lb", english[:60]) + dirt[:2])
    # English that French doesn't have: German has more of the held-out text than it needs.
    write_lines(folder / "es.tsv", _lines("lb", english[250:330]))
    write_lines(folder / "it.tsv", ["uno due\tone two"])
    write_lines(folder / "pt.tsv", ["same\tsame"])
    write_lines(
        folder / "fr_test.tsv", [*_lines("fr", english[3:9]), "un deux\tone two", "\tempty"]
    )
    (folder / "mine.txt").write_text(english[60].upper() + "!\n")
    corpora = [("de", "de.tsv", "train"), ("de-AT", "de_more.tsv", "train")]
    corpora += [("de-CH", "de.tsv", "train"), ("fr", "fr.tsv", "train")]
    corpora += [("fra", "fr_test.tsv", "test"), ("lb", "lb.tsv", "train")]
    corpora += [("es", "es.tsv", "train"), ("it", "it.tsv", "test"), ("pt", "pt.tsv", "train")]
    tables: list[dict[str, Any]] = [
        {"language": language, "source": f"tsv:{file}", "split": split, "license": "x"}
        for language, file, split in corpora
    ]
    tables[1] |= {"max_pairs": 60, "weight": 2}
    write_recipe(folder, tables)
    return dataclasses.replace(config, keep_out=str(folder / "mine.txt"))


def write_lines(path: pathlib.Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(language: str, sentences: list[str]) -> list[str]:
    return [f"{translated(sentence, language)}\t{sentence}" for sentence in sentences]


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the content of every file below a folder, by its path from there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
