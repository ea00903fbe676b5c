"""Test sets: held-out sentences or the user's own, and how many of them are in training data."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.console import Bar
from gshard_mt.data.corpora.entry import Entry
from gshard_mt.data.corpora.readers import SCHEMES
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.data.normalization import normalize, one_line
from gshard_mt.data.perturbations import PERTURBATIONS, Sentence, perturb
from gshard_mt.data.prepare.decontamination import text_keys
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.data.tokenizer import Tokenizer
from gshard_mt.errors import ConfigError, DataError, suggest
from gshard_mt.evaluate.named_sets import FORMS, is_named, open_named, read_named
from gshard_mt.languages import match_languages, source_language, source_of_pair
from gshard_mt.run.directory import Run
from gshard_mt.storage.bucket_path import open_path

NAME = "testset"  # of test sets that are no split
HELD_OUT = ("dev", "test")
_RECORDS = 20_000  # read at a time

Sentences = Sequence[tuple[str, str]]  # source, English


class TestSet(NamedTuple):
    """Sentences with their English translations, by language pair."""

    __test__ = False  # not a test class of pytest

    name: str  # of the folder that results are written to
    pairs: Mapping[str, Sentences]


@dataclasses.dataclass(frozen=True, slots=True)
class Leak:
    """How many sentences of a test set are in the training data, in any of its languages."""

    sources: int
    english: int


def open_data(run: Run, folder: pathlib.Path, data_dir: str | None) -> Prepared:
    """Opens the data that the model in a folder was trained on: `data_dir`, else where they were.

    Raises DataError if they aren't there, or are others.
    """
    path = open_path(data_dir) if data_dir else run.data_dir
    try:
        prepared = open_prepared(path)
    except DataError as error:
        raise DataError(f"{error}, or give --data_dir") from None
    if prepared.fingerprint != run.data_fingerprint:
        raise DataError(f"{path}: not the data that {folder} was trained on; give --data_dir")
    return prepared


def open_test_set(
    values: Sequence[str], run: Run, folder: pathlib.Path, data_dir: str | None, leak_check: bool
) -> tuple[TestSet, Prepared | None]:
    """Opens `dev`, `test` or what `read_test_set` reads, for the model in a folder.

    Also returns the training data to look for its sentences in, if it is no held-out split and
    `leak_check` asks for it. Standard error tells which languages of a split are left out.
    """
    if len(values) == 1 and values[0] in HELD_OUT:
        prepared = open_data(run, folder, data_dir)
        for pair in without_training(prepared, values[0]):
            print(f"left out    {pair}: no training pairs; --testset scores it", file=sys.stderr)
        return _held_out(prepared, values[0]), None
    test = read_test_set(values, run.train_pairs)
    for pair in test.pairs:
        if not run.train_pairs.get(pair):
            print(f"untrained   {pair}: the model has seen no pair of it", file=sys.stderr)
    return test, open_data(run, folder, data_dir) if leak_check else None


def _held_out(prepared: Prepared, split: str) -> TestSet:
    """Returns `held_out`, whose error tells what could be scored instead."""
    try:
        return held_out(prepared, split)
    except DataError as error:
        trained = [pair for pair, number in prepared.train_pairs.items() if number]
        other = next(name for name in HELD_OUT if name != split)
        has_other = len(prepared.without(other)) < len(trained)
        accepted = f"--split {other}" if has_other else "--testset de-en=FILE.tsv"
        raise DataError(f"{error}; accepted: {accepted}") from None


def held_out(prepared: Prepared, split: str) -> TestSet:
    """Returns the held-out split of the languages that have training pairs, as they are scored.

    Raises DataError if it is empty.
    """
    pairs = [pair for pair, number in prepared.train_pairs.items() if number]
    found = {pair: prepared.references(pair, split) for pair in pairs}
    found = {pair: sentences for pair, sentences in found.items() if sentences}
    if not found:
        raise DataError(f"{prepared.directory}: no pair has a {split} split")
    return TestSet(split, found)


def without_training(prepared: Prepared, split: str) -> list[str]:
    """Returns the pairs of a split that `held_out` leaves out: they have no training pairs."""
    return [
        pair
        for pair, number in prepared.train_pairs.items()
        if not number and prepared.references(pair, split)
    ]


def read_test_set(values: Sequence[str], language_pairs: Collection[str] = ()) -> TestSet:
    """Reads `de-en=FILE.tsv` values, the test (else dev) corpora of one recipe, or one named set.

    A language gets the code that it has in `language_pairs`, whatever the test set calls it.
    Sentences are taken as `gshard-prepare-data` takes those of ready-made splits: as they are, and
    a pair with an empty side is left out, which standard error tells.
    Raises ConfigError for a value of another form, DataError for text that can't be read.
    """
    if len(values) == 1 and values[0].endswith(".toml"):
        recipe = load_recipe(open_path(values[0]))
        entries = [entry for entry in recipe.entries if entry.split == "test"]
        entries = entries or [entry for entry in recipe.entries if entry.split == "dev"]
        if not entries:
            raise DataError(f'{values[0]}: found no test corpus; accepted: split = "test"')
        return TestSet(_name(recipe.name), _read(entries, language_pairs))
    if len(values) == 1 and is_named(values[0]):
        found = open_named(values[0])
        return TestSet(_name(found.name), _collect(read_named(found, language_pairs)))
    return TestSet(NAME, _read([_entry(value) for value in values], language_pairs))


def _name(name: str) -> str:
    """Returns a name for a folder, never that of a held-out split."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".")
    return f"{NAME}-{name}"


def _entry(value: str) -> Entry:
    pair, equals, path = value.partition("=")
    language = source_of_pair(pair)
    if not equals or not path or not language:
        raise ConfigError(
            f"--testset: found {value!r}, accepted: de-en=FILE.tsv, repeatable; or one of "
            f"RECIPE.toml, {FORMS}"
        )
    return Entry((language,), "test", "tsv", path, "", "", pathlib.Path())


def _read(
    entries: Sequence[Entry], language_pairs: Collection[str]
) -> dict[str, list[tuple[str, str]]]:
    read = [pair for entry in entries for pair in SCHEMES[entry.scheme].read(entry)]
    tags = {pair.language for pair in read}
    codes = match_languages(tags, [source_language(pair) for pair in language_pairs])
    return _collect((f"{codes[tag]}-en", source, english) for tag, source, english in read)


def _collect(lines: Iterable[tuple[str, str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Returns source and English by language pair; pairs with an empty side are told."""
    found: dict[str, list[tuple[str, str]]] = {}
    num_empty: Counter[str] = Counter()
    for pair, *sides in lines:
        if all(map(normalize, sides)):
            source, english = map(one_line, sides)
            found.setdefault(pair, []).append((source, english))
        else:
            num_empty[pair] += 1
    for pair, number in sorted(num_empty.items()):
        print(f"left out    {pair}: {number:,} pairs with an empty side", file=sys.stderr)
    if not found:
        raise DataError("--testset: found no pair with text on both sides; accepted: some")
    return found


def perturbed(test: TestSet, name: str) -> TestSet:
    """Returns a test set with a perturbation of `PERTURBATIONS` in every sentence, always the same.

    Its name is `dev-upper_case` for `dev`. Raises ConfigError for an unknown perturbation.
    """
    if name not in PERTURBATIONS:
        raise ConfigError(f"--perturb: found {name!r}{suggest(name, PERTURBATIONS)}")
    pairs = {
        pair: [
            perturb(name, Sentence(source_language(pair), *sentence), f"{pair} {number}")
            for number, sentence in enumerate(sentences)
        ]
        for pair, sentences in test.pairs.items()
    }
    return TestSet(f"{test.name}-{name}", pairs)


def find_leaks(test: TestSet, prepared: Prepared, tokenizer: Tokenizer) -> dict[str, Leak]:
    """Looks for test sentences in all training data, ignoring case, spaces and punctuation."""
    sides = {
        pair: tuple(text_keys([sentence[side] for sentence in sentences]) for side in (0, 1))
        for pair, sentences in test.pairs.items()
    }
    searched = [
        np.unique(np.concatenate([both[side] for both in sides.values()])) for side in (0, 1)
    ]
    seen = [np.zeros(len(keys), bool) for keys in searched]
    total = sum(prepared.train_pairs.values())
    with Bar("leaks", "pair", total, unit_scale=True) as bar:
        for pair in prepared.language_pairs:
            for texts in _training_texts(prepared, pair, tokenizer):
                for side, lines in enumerate(texts):
                    seen[side] |= np.isin(searched[side], text_keys(lines))
                bar.update(len(texts[0]))
    leaked = [keys[is_seen] for keys, is_seen in zip(searched, seen, strict=True)]
    return {
        pair: Leak(*(int(np.isin(keys, leaked[side]).sum()) for side, keys in enumerate(both)))
        for pair, both in sides.items()
    }


def _training_texts(prepared: Prepared, pair: str, tokenizer: Tokenizer):
    """Yields lists of sources and of English, as normalized when the data were prepared."""
    if not prepared.num_examples[pair].get("train"):
        return
    reader = prepared.reader(pair, "train")
    for start in range(0, len(reader), _RECORDS):
        records = reader.read(np.arange(start, min(start + _RECORDS, len(reader))))
        yield (
            tokenizer.decode_sources([record.source.tolist() for record in records]),
            tokenizer.decode_targets([record.target.tolist() for record in records]),
        )
