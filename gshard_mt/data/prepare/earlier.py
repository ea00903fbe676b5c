"""Earlier data: what their splits rule out for new data, if one model is trained on both."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.console import Bar
from gshard_mt.data.manifest import NAME
from gshard_mt.data.prepare.decontamination import text_keys
from gshard_mt.data.prepare.held_out import Keys
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import DataError
from gshard_mt.storage.bucket_path import open_path

_RECORDS = 20_000  # read at a time
_NO_KEYS = np.zeros(0, np.uint64)


class Earlier(NamedTuple):
    """Prepared data whose dev and test text stays held out, and whose training text isn't."""

    data: tuple[Prepared, ...] = ()
    notes: tuple[str, ...] = ()  # what to tell the user

    def fingerprint(self) -> str:
        """Returns a hash of all that the data are; empty without any."""
        text = " ".join(sorted(each.fingerprint for each in self.data))
        return hashlib.sha256(text.encode()).hexdigest() if text else ""

    def held_out_keys(self) -> tuple[dict[str, Keys], Keys]:
        """Returns the sorted keys of English text by split, and those of all held-out text."""
        english: dict[str, list[Keys]] = {"dev": [_NO_KEYS], "test": [_NO_KEYS]}
        source = [_NO_KEYS]
        for prepared in self.data:
            for pair in prepared.language_pairs:
                for split, keys in english.items():
                    sides = zip(*prepared.references(pair, split), strict=True)
                    for found, texts in zip((source, keys), sides, strict=False):
                        found.append(text_keys(list(texts)))
        of_split = {split: np.unique(np.concatenate(keys)) for split, keys in english.items()}
        return of_split, np.unique(np.concatenate([*source, *of_split.values()]))

    def training_keys(self) -> Keys:
        """Returns the sorted keys of all training text, 8 bytes for a sentence."""
        total = sum(sum(prepared.train_pairs.values()) for prepared in self.data)
        found = (each for prepared in self.data for each in _training_keys(prepared))
        keys = [_NO_KEYS]
        options = {"unit_scale": True, "leave": False, "delay": 0.5}
        with Bar("earlier text", "pair", total, **options) as bar:
            for source, english in found:
                keys += [source, english]
                bar.update(len(source))
        return np.unique(np.concatenate(keys))


def find_earlier(config: DataConfig) -> Earlier:
    """Finds the data of `data.held_out`, or else those whose tokenizer is reused or extended.

    Those that these were prepared with in turn are included, as far as they are found.
    """
    data: dict[str, Prepared] = {}
    notes: list[str] = []
    for path in _paths(config.held_out):
        prepared = open_prepared(path)
        data[prepared.fingerprint] = prepared
    source = config.tokenizer or config.extend_tokenizer
    if source and not data:
        _add(open_path(source), data, notes)
    todo = list(data.values())
    while todo:
        known = set(data)
        old = todo.pop().manifest["config"]
        reused = old.get("tokenizer") or old.get("extend_tokenizer") or ""
        for path in _paths(old.get("held_out") or reused):
            _add(path, data, notes)
        todo += [prepared for key, prepared in data.items() if key not in known]
    return Earlier(tuple(data.values()), tuple(notes))


def _add(path: pathlib.Path, data: dict[str, Prepared], notes: list[str]) -> None:
    try:
        prepared = open_prepared(path)
    except DataError:
        notes.append(
            f"{path / NAME}: not found, so it is not known what was held out of the text of this "
            "tokenizer; data.held_out=DIR names prepared data whose dev and test text is kept out"
        )
        return
    data.setdefault(prepared.fingerprint, prepared)


def _paths(text: str) -> Sequence[pathlib.Path]:
    return [open_path(each.strip()) for each in text.split(",") if each.strip()]


def _training_keys(prepared: Prepared) -> Iterator[tuple[Keys, Keys]]:
    tokenizer = load_tokenizer(prepared.directory)
    for pair, number in prepared.train_pairs.items():
        reader = prepared.reader(pair, "train") if number else ()
        for start in range(0, number, _RECORDS):
            records = reader.read(np.arange(start, min(start + _RECORDS, number)))  # type: ignore
            yield (
                text_keys(tokenizer.decode_sources([each.source.tolist() for each in records])),
                text_keys(tokenizer.decode_targets([each.target.tolist() for each in records])),
            )
