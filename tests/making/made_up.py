"""Small corpora, made up, and the settings that fit them."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import json
import pathlib
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
