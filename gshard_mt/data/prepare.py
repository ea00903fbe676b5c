"""Prepare: from a recipe to a directory of token ids, references, tokenizers and a report."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from gshard_mt.config import DataConfig
from gshard_mt.data.cleaning import is_ratio_above
from gshard_mt.data.corpora.entry import SPLITS, Pair
from gshard_mt.data.corpora.readers import SCHEMES
from gshard_mt.data.manifest import (
    FORMAT_VERSION,
    claim_directory,
    identity_of,
    read_manifest,
    write_manifest,
)
from gshard_mt.data.mixture import temperature_shares
from gshard_mt.data.recipe import Recipe, load_recipe
from gshard_mt.data.records import write_dataset
from gshard_mt.data.report import write_reports
from gshard_mt.data.splits import Drops, Splits, clean_pairs, hold_out, sample_by_temperature
from gshard_mt.data.tokenizer import Tokenizer, load_tokenizer, save_models, train_model
from gshard_mt.errors import DataError

_ENCODE_PAIRS = 20_000  # pairs between two steps of the progress bar

Ids = tuple[list[int], list[int]]


def prepare(config: DataConfig, data_dir: pathlib.Path) -> tuple[dict, bool]:
    """Prepares the recipe's text in `data_dir`; returns the manifest, and whether it was there.

    Where the same data is there, finished, nothing is done. All that comes out is a function of
    the settings and of the text. Raises DataError or ConfigError for what the user can mend.
    """
    recipe = load_recipe(pathlib.Path(config.recipe))
    identity = identity_of(dataclasses.asdict(config), recipe.fingerprint())
    if not claim_directory(data_dir, identity):
        return read_manifest(data_dir), True
    drops = Drops()
    languages = hold_out(clean_pairs(_read(recipe), config.max_characters, drops), config, drops)
    _check_not_empty(languages, recipe, config)
    _train_tokenizer(languages, config, data_dir)
    tokenizer = load_tokenizer(data_dir)
    (data_dir / "references").mkdir()
    pairs, lengths = {}, {}
    total = sum(len(pairs) for splits in languages.values() for pairs in splits.values())
    with _progress("writing", total) as bar:
        for language, splits in languages.items():
            ids = {}
            for split in SPLITS:
                ids[split] = _encode(splits[split], tokenizer, bar)
                if split != "test":
                    ids[split] = _fitting(language, split, splits, ids[split], config, drops)
            name = f"{language}-en"
            lengths[name] = [(len(source), len(target)) for source, target in ids["train"]]
            write_dataset(data_dir / name, ids, f"{name} of the recipe {recipe.name}")
            for split in ("dev", "test"):
                _write_reference(data_dir / "references" / f"{name}.{split}.tsv", splits[split])
            pairs[name] = {split: _counts(ids[split]) for split in SPLITS} | {
                "drops": dict(sorted(drops.counts[language].items()))
            }
    manifest = {
        "format_version": FORMAT_VERSION,
        "finished": True,
        "identity": identity,
        "recipe": {"name": recipe.name, "corpora": _sources(recipe)},
        "config": dataclasses.asdict(config),
        "tokenizer": {
            "hash": tokenizer.hash,
            "source_size": tokenizer.source_size,
            "target_size": tokenizer.target_size,
        },
        "pairs": pairs,
    }
    write_reports(data_dir, manifest, drops, lengths)
    write_manifest(data_dir, manifest)
    return manifest, False


def _read(recipe: Recipe) -> Iterator[tuple[str, Pair]]:
    with _progress("reading") as bar:
        for entry in recipe.entries:
            num_pairs = 0
            for pair in SCHEMES[entry.scheme].read(entry):
                num_pairs += 1
                yield entry.split, pair
                if num_pairs % 1000 == 0:
                    bar.update(1000)
            if num_pairs == 0:
                raise DataError(f"{entry.scheme}:{entry.location}: no pairs in it")


def _progress(what: str, total: int | None = None, unit: str = "pairs") -> tqdm:
    return tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        unit_scale=True,
        leave=False,
        delay=2 if total is None else 0,
        file=sys.stderr,
    )


def _check_not_empty(languages: dict[str, Splits], recipe: Recipe, config: DataConfig) -> None:
    if not any(splits["train"] for splits in languages.values()):
        raise DataError(
            f"{config.recipe}: after cleaning no training pair is left of {recipe.name}"
        )


def _train_tokenizer(
    languages: dict[str, Splits], config: DataConfig, data_dir: pathlib.Path
) -> None:
    train = [splits["train"] for splits in languages.values()]
    shares = temperature_shares([len(pairs) for pairs in train], config.vocab_temperature)
    num_sentences = min(config.vocab_num_sentences, sum(len(pairs) for pairs in train))
    source, target = (
        sample_by_temperature(
            [[pair[side] for pair in pairs] for pairs in train], shares, num_sentences
        )
        for side in (0, 1)
    )
    sides = (
        {"joint": source + target}
        if config.joint_vocabulary
        else {"source": source, "target": target}
    )
    keys = {
        "joint": "source_vocab_size",
        "source": "source_vocab_size",
        "target": "target_vocab_size",
    }
    models = {}
    with _progress("training subwords", len(sides), "models") as bar:
        for name, lines in sides.items():
            models[name] = train_model(lines, getattr(config, keys[name]), f"data.{keys[name]}")
            bar.update()
    save_models(models, data_dir / "tokenizer")


def _encode(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, bar: tqdm) -> list[Ids]:
    ids: list[Ids] = []
    for start in range(0, len(pairs), _ENCODE_PAIRS):
        part = pairs[start : start + _ENCODE_PAIRS]
        sources = tokenizer.encode_source([source for source, _ in part])
        targets = tokenizer.encode_target([english for _, english in part])
        ids += zip(sources, targets, strict=True)
        bar.update(len(part))
    return ids


def _fitting(
    language: str, split: str, splits: Splits, ids: list[Ids], config: DataConfig, drops: Drops
) -> list[Ids]:
    kept: list[Ids] = []
    for pair, (source, target) in zip(splits[split], ids, strict=True):
        if len(source) >= config.source_length or len(target) >= config.target_length:
            drops.add(language, "row_length" if split == "train" else "dev_row_length", pair)
        elif split == "train" and is_ratio_above(len(source), len(target), config.max_length_ratio):
            drops.add(language, "length_ratio", pair)
        else:
            kept.append((source, target))
    return kept


def _counts(ids: list[Ids]) -> dict[str, int]:
    return {
        "pairs": len(ids),
        "source_tokens": sum(len(source) for source, _ in ids),
        "target_tokens": sum(len(target) for _, target in ids),
    }


def _write_reference(path: pathlib.Path, pairs: Sequence[tuple[str, str]]) -> None:
    content = "".join(f"{source}\t{english}\n" for source, english in pairs)
    path.write_bytes(content.encode())


def _sources(recipe: Recipe) -> list[dict]:
    return [
        {
            "languages": list(entry.languages),
            "split": entry.split,
            "source": f"{entry.scheme}:{os.path.basename(entry.location)}",
            "license": entry.license,
            "sha256": entry.sha256,
        }
        for entry in recipe.entries
    ]
