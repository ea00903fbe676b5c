"""Prepared data: a finished data directory, opened for reading."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import json
import pathlib
from dataclasses import dataclass
from typing import Any

from gshard_mt.data.manifest import NAME, read_manifest
from gshard_mt.data.records import RecordReader
from gshard_mt.errors import DataError


@dataclass(frozen=True)
class Prepared:
    """What the manifest says of a prepared directory; pairs are sorted."""

    directory: pathlib.Path
    pairs: tuple[str, ...]  # "de-en"
    num_pairs: dict[str, dict[str, int]]  # pair -> split -> pairs in its dataset
    num_tokens: dict[str, dict[str, tuple[int, int]]]  # pair -> split -> source, target tokens
    vocab_sizes: tuple[int, int]  # subwords of source and target, special symbols included
    tokenizer_hash: str
    source_length: int  # the longest source has fewer subwords
    target_length: int
    manifest: dict[str, Any]

    @property
    def train_pairs(self) -> dict[str, int]:
        """Training pairs of every pair."""
        return {pair: splits["train"] for pair, splits in self.num_pairs.items()}

    @property
    def fingerprint(self) -> str:
        """A hash of the manifest: the same data have the same one, wherever they lie."""
        text = json.dumps(self.manifest, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def reader(self, pair: str, split: str) -> RecordReader:
        """Opens the token ids of a pair's split. Raises DataError where there are none."""
        reader = RecordReader(self.directory / pair, split)
        if len(reader) != self.num_pairs[pair][split]:
            raise DataError(
                f"{self.directory / pair}: {len(reader)} {split} records, the manifest says "
                f"{self.num_pairs[pair][split]}; prepare the data again"
            )
        return reader

    def references(self, pair: str, split: str) -> list[tuple[str, str]]:
        """Returns the raw (source, English) of a pair's dev or test, exactly what is scored.

        Raises DataError with the line where they are not what was written.
        """
        path = self.directory / "references" / f"{pair}.{split}.tsv"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
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
    """Opens a prepared directory. Raises DataError where it is missing, unfinished, not ours."""
    manifest = read_manifest(data_dir)
    try:
        pairs = {pair: manifest["pairs"][pair] for pair in sorted(manifest["pairs"])}
        splits = {
            pair: {split: values for split, values in info.items() if split != "drops"}
            for pair, info in pairs.items()
        }
        return Prepared(
            directory=data_dir,
            pairs=tuple(pairs),
            num_pairs=_each_split(splits, lambda counts: counts["pairs"]),
            num_tokens=_each_split(
                splits, lambda counts: (counts["source_tokens"], counts["target_tokens"])
            ),
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


def _each_split(pairs: dict[str, dict[str, Any]], read: Any) -> dict[str, dict[str, Any]]:
    return {
        pair: {split: read(counts) for split, counts in splits.items()}
        for pair, splits in pairs.items()
    }
