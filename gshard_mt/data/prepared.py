"""Prepared data: a finished data directory, opened for reading."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import json
import pathlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from gshard_mt.data.manifest import NAME, read_manifest
from gshard_mt.data.records import RecordReader
from gshard_mt.errors import DataError
from gshard_mt.storage.cache import local_copy


class Corpus(NamedTuple):
    """The part of a language pair's training records that is of one corpus: contiguous records."""

    name: str
    weight: float
    pairs: int
    source_tokens: int
    target_tokens: int


@dataclass(frozen=True)
class Prepared:
    """What the manifest of a prepared directory says; language pairs are sorted."""

    directory: pathlib.Path
    language_pairs: tuple[str, ...]  # such as "de-en"
    num_examples: dict[str, dict[str, int]]  # language pair -> split -> sentence pairs
    num_tokens: dict[str, dict[str, tuple[int, int]]]  # language pair -> split -> source, target
    # language pair -> corpora in the order of its training records; none in data of old versions
    corpora: dict[str, tuple[Corpus, ...]]
    vocab_sizes: tuple[int, int]  # subwords of source and target, special symbols included
    tokenizer_hash: str
    source_length: int  # every source has fewer subwords
    target_length: int
    manifest: dict[str, Any]

    @property
    def train_pairs(self) -> dict[str, int]:
        """The number of training sentence pairs of each language pair."""
        return {pair: splits["train"] for pair, splits in self.num_examples.items()}

    def without(self, split: str) -> list[str]:
        """Returns the language pairs that are trained on and have nothing in a held-out split."""
        return [
            pair
            for pair, counts in self.num_examples.items()
            if counts["train"] and not counts.get(split)
        ]

    @property
    def fingerprint(self) -> str:
        """A hash of the manifest: the same for the same data in any directory."""
        text = json.dumps(self.manifest, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def reader(self, pair: str, split: str) -> RecordReader:
        """Opens the token ids of a language pair's split. Raises DataError if there are none."""
        reader = RecordReader(self.directory / pair, split)
        if len(reader) != self.num_examples[pair][split]:
            raise DataError(
                f"{self.directory / pair}: {len(reader)} {split} records, the manifest says "
                f"{self.num_examples[pair][split]}; prepare the data again"
            )
        return reader

    def references(self, pair: str, split: str) -> list[tuple[str, str]]:
        """Returns the raw (source, English) of a dev or test split, exactly as it is scored.

        Raises DataError with the line number if the file is damaged.
        """
        path = self.directory / "references" / f"{pair}.{split}.tsv"
        try:
            lines = local_copy(path).read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise DataError(f"{path}: can't be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 ({error}); prepare the data again") from None
        found = []
        for number, line in enumerate(lines, 1):
            source, *english = line.split("\t")
            if line and len(english) != 1:
                raise DataError(
                    f"{path}:{number}: found {1 + len(english)} columns, accepted: 2; prepare the "
                    "data again"
                )
            found += [(source, text) for text in english]
        return found


def open_prepared(data_dir: pathlib.Path) -> Prepared:
    """Opens a prepared directory. Raises DataError if it is missing, unfinished or not ours."""
    manifest = read_manifest(data_dir)
    try:
        splits = {
            pair: {split: counts for split, counts in info.items() if split != "drops"}
            for pair, info in sorted(manifest["pairs"].items())
        }
        return Prepared(
            directory=data_dir,
            language_pairs=tuple(splits),
            num_examples={
                pair: {split: counts["pairs"] for split, counts in info.items()}
                for pair, info in splits.items()
            },
            num_tokens={
                pair: {
                    split: (counts["source_tokens"], counts["target_tokens"])
                    for split, counts in info.items()
                }
                for pair, info in splits.items()
            },
            corpora={
                pair: tuple(Corpus(**each) for each in info["train"].get("corpora", ()))
                for pair, info in splits.items()
            },
            vocab_sizes=(
                manifest["tokenizer"]["source_size"],
                manifest["tokenizer"]["target_size"],
            ),
            tokenizer_hash=manifest["tokenizer"]["hash"],
            source_length=manifest["config"]["source_length"],
            target_length=manifest["config"]["target_length"],
            manifest=manifest,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{data_dir / NAME}: incomplete ({error!r}); prepare it again") from None
