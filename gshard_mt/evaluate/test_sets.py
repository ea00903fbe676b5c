"""Test sets: held-out sentences or the user's own, and how many of them are in training data."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
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
    is_whole: bool = True  # whether all training data were searched


class TrainingData(NamedTuple):
    """Data that a model was trained on."""

    found: list[Prepared]
    is_whole: bool  # whether that is all that it was trained on


NOTHING = TrainingData([], is_whole=True)


def open_data(run: Run, folder: pathlib.Path, data_dir: str | None) -> Prepared:
    """Opens the data that the model in a folder was trained on: `data_dir`, else where they were.

    `data_dir` may also be that of data which the run has left. Raises DataError if it has no data,
    or others.
    """
    path = open_path(data_dir) if data_dir else run.data_dir
    try:
        prepared = open_prepared(path)
    except DataError as error:
        raise DataError(f"{error}; if the data of {folder} were moved, give --data_dir") from None
    known = [run.data_fingerprint, *(each.fingerprint for each in run.earlier if data_dir)]
    if prepared.fingerprint not in known:
        raise DataError(f"{path}: not the data that {folder} was trained on; give --data_dir")
    return prepared


def open_training_data(
    run: Run, folder: pathlib.Path, data_dirs: Sequence[str] = ()
) -> TrainingData:
    """Opens all data that the model in a folder was trained on, in `data_dirs` or where they were.

    Standard error tells which of those that the run has left are not found. Raises DataError if
    others are missing, or if `data_dirs` have something else.
    """
    given = {each.fingerprint: each for each in (open_data(run, folder, d) for d in data_dirs)}
    found = [given.get(run.data_fingerprint) or open_data(run, folder, None)]
    for data in run.earlier:
        prepared = given.get(data.fingerprint)
        with contextlib.suppress(DataError):
            if not prepared and data.directory:
                prepared = open_prepared(data.directory)
        if prepared and prepared.fingerprint == data.fingerprint:
            found.append(prepared)
        else:
            print(
                f"not found   the data of {folder} up to step {data.last_step} "
                f"({data.directory or 'their directory was not recorded'}); --data_dir, given once "
                "for each of its data, says where they are",
                file=sys.stderr,
            )
    return TrainingData(found, len(found) == 1 + len(run.earlier))


def open_test_set(
    values: Sequence[str],
    run: Run,
    folder: pathlib.Path,
    data_dirs: Sequence[str],
    leak_check: bool,
) -> tuple[TestSet, TrainingData]:
    """Opens `dev`, `test` or what `read_test_set` reads, for the model in a folder.

    A split is that of the first of `data_dirs`. Also returns the training data to look for its
    sentences in, if `leak_check` asks for it; a split is not looked for in its own. Standard error
    tells which languages of a split are left out.
    """
    is_split = len(values) == 1 and values[0] in HELD_OUT
    if not is_split:
        test = read_test_set(values, run.train_pairs)
        for pair in test.pairs:
            if not run.train_pairs.get(pair):
                print(f"untrained   {pair}: the model has seen no pair of it", file=sys.stderr)
        return test, open_training_data(run, folder, data_dirs) if leak_check else NOTHING
    prepared = open_data(run, folder, data_dirs[0] if data_dirs else None)
    for pair in without_training(prepared, values[0]):
        print(f"left out    {pair}: no training pairs; --testset scores it", file=sys.stderr)
    if others := [pair for pair in run.train_pairs if pair not in prepared.train_pairs]:
        text = f"left out    {', '.join(others)}: in other data of {folder}, which --data_dir names"
        print(text, file=sys.stderr)
    test = _held_out(prepared, values[0])
    if not leak_check or not run.earlier:
        return test, NOTHING
    data = open_training_data(run, folder, data_dirs)
    own = prepared.fingerprint
    return test, data._replace(found=[each for each in data.found if each.fingerprint != own])


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


def find_leaks(test: TestSet, data: TrainingData, tokenizer: Tokenizer) -> dict[str, Leak]:
    """Looks for test sentences in training data, ignoring case, spaces and punctuation.

    Returns nothing without any data.
    """
    if not data.found:
        return {}
    sides = {
        pair: tuple(text_keys([sentence[side] for sentence in sentences]) for side in (0, 1))
        for pair, sentences in test.pairs.items()
    }
    searched = [
        np.unique(np.concatenate([both[side] for both in sides.values()])) for side in (0, 1)
    ]
    seen = [np.zeros(len(keys), bool) for keys in searched]
    parts = [(prepared, pair) for prepared in data.found for pair in prepared.language_pairs]
    total = sum(prepared.train_pairs[pair] for prepared, pair in parts)
    with Bar("leaks", "pair", total, unit_scale=True) as bar:
        for prepared, pair in parts:
            for texts in _training_texts(prepared, pair, tokenizer):
                for side, lines in enumerate(texts):
                    seen[side] |= np.isin(searched[side], text_keys(lines))
                bar.update(len(texts[0]))
    leaked = [keys[is_seen] for keys, is_seen in zip(searched, seen, strict=True)]
    return {
        pair: Leak(
            *(int(np.isin(keys, leaked[side]).sum()) for side, keys in enumerate(both)),
            is_whole=data.is_whole,
        )
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
