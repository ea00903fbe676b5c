"""Prepare: turns a recipe into a directory of token ids, references, tokenizers and a report.

Text is processed in blocks; what must be known of all text at once is kept on disk as hashes.
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import errno
import os
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.data.corpora.entry import SPLITS
from gshard_mt.data.corpora.readers import num_bytes
from gshard_mt.data.corpora.recipe import Recipe, load_recipe
from gshard_mt.data.manifest import (
    FORMAT_VERSION,
    WORK,
    identity_of,
    is_prepared,
    read_manifest,
    write_manifest,
)
from gshard_mt.data.prepare.blocks import write_array
from gshard_mt.data.prepare.decontamination import read_keep_out
from gshard_mt.data.prepare.drops import Drops
from gshard_mt.data.prepare.earlier import Earlier, find_earlier
from gshard_mt.data.prepare.job import Job, Pipeline, PipelineOutput
from gshard_mt.data.prepare.local import run_locally
from gshard_mt.data.prepare.losses import find_losses
from gshard_mt.data.prepare.places import prepare_in_bucket, prepare_in_folder
from gshard_mt.data.prepare.selection import no_training_pair
from gshard_mt.data.prepare.shards import SplitCounts
from gshard_mt.data.prepare.subwords import copy_models
from gshard_mt.data.prepare.summary import write_reports
from gshard_mt.data.records import write_dataset
from gshard_mt.data.tokenizer import Tokenizer, load_tokenizer
from gshard_mt.errors import ConfigError, DataError
from gshard_mt.storage.bucket_path import BucketPath, open_path

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Counts = dict[str, dict[str, SplitCounts]]  # language -> split -> what was written


def prepare(
    config: DataConfig, data_dir: pathlib.Path, run: Pipeline = run_locally
) -> tuple[dict, bool]:
    """Prepares a recipe in `data_dir`; returns the manifest and whether it already existed.

    Finished data with the same settings is left as it is; an unfinished preparation starts again,
    and that of another process is waited for. The output is a function of the settings and the
    text, the same for every pipeline. Raises DataError or ConfigError for what the user can fix.
    """
    recipe = read_recipe(config)
    source = config.tokenizer or config.extend_tokenizer
    given = load_tokenizer(open_path(source)) if source else None
    earlier = find_earlier(config)
    identity = identity_of(
        config, recipe.fingerprint(), given.hash if given else "", earlier.fingerprint()
    )
    keep_out = read_keep_out(config.keep_out)
    if is_prepared(data_dir, identity):
        return read_manifest(data_dir), True

    def make(folder: pathlib.Path) -> None:
        for note in earlier.notes:
            print(note, file=sys.stderr)
        english, sentences = earlier.held_out_keys()
        job = Job(config, recipe, folder, np.union1d(keep_out, sentences), english)
        _prepare(job, run, given, earlier, identity)

    prepare_there = prepare_in_bucket if isinstance(data_dir, BucketPath) else prepare_in_folder
    is_there = prepare_there(data_dir, identity, make)
    return read_manifest(data_dir), is_there


def _prepare(
    job: Job, run: Pipeline, given: Tokenizer | None, earlier: Earlier, identity: dict[str, Any]
) -> None:
    data_dir = job.data_dir
    try:
        job.work.mkdir()
        write_array(job.trained, earlier.training_keys())
        if given:
            copy_models(given, job.config, data_dir)
        manifest = _finish(job, run(job), given)
        write_manifest(data_dir, manifest | {"identity": identity})
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise DataError(
            f"{data_dir}: {os.strerror(error.errno)}; free about three times the size of the text "
            "and run it again"
        ) from None
    finally:
        shutil.rmtree(data_dir / WORK, ignore_errors=True)


def read_recipe(config: DataConfig) -> Recipe:
    """Returns the recipe that a config names. Raises ConfigError if it names none."""
    if not config.recipe:
        raise ConfigError(
            "config.data.recipe: found none, accepted: the path of a corpus recipe "
            "(--config.data.recipe=FILE.toml)"
        )
    return load_recipe(open_path(config.recipe))


def _finish(job: Job, output: PipelineOutput, given: Tokenizer | None) -> dict[str, Any]:
    (job.data_dir / "references").mkdir()
    counts: Counts = {}
    for name in output.languages:
        for split in ("dev", "test"):
            pairs = output.references.get((name, split), [])
            lines = "".join(f"{source}\t{english}\n" for source, english in pairs)
            path = job.data_dir / "references" / f"{name}-en.{split}.tsv"
            path.write_bytes(lines.encode())
        shards = {split: output.shards.get((name, split), []) for split in SPLITS}
        description = f"{name}-en of the recipe {job.recipe.name}"
        infos = {split: [shard.info for shard in parts] for split, parts in shards.items()}
        write_dataset(job.data_dir / f"{name}-en", infos, description)
        counts[name] = {split: SplitCounts() for split in SPLITS}
        for split, parts in shards.items():
            for shard in parts:
                counts[name][split].add(shard.counts)
                output.drops.merge(shard.drops)
    manifest = _describe(job, counts, output.drops)
    if given and job.config.extend_tokenizer:
        manifest["tokenizer"]["extended_from"] = _describe_tokenizer(given)
    num_left = {
        name: sum(each.pairs for each in splits.values()) for name, splits in counts.items()
    }
    lines = output.notes + _describe_losses(job, output.drops, num_left) + _small_models(job)
    lines += _missing_splits(job, counts)
    for line in lines:
        print(line, file=sys.stderr)
    if not any(splits["train"].pairs for splits in counts.values()):
        raise no_training_pair(job.config)  # the lines say why
    write_reports(job.data_dir, manifest | {"notes": lines}, output.drops, counts)
    return manifest


def _describe_losses(job: Job, drops: Drops, num_left: Mapping[str, int]) -> list[str]:
    """Returns a line for each large loss. Raises DataError if one is more than the user accepts."""
    sources = [f"{entry.scheme}:{entry.location}" for entry in job.recipe.entries]
    most = job.config.max_drop_share
    if most < 1 and (found := find_losses(drops, num_left, sources, most)):
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise DataError(
            f"config.data.max_drop_share: found {most:g}, but {found[0].describe()}{more}"
        )
    return [loss.describe() for loss in find_losses(drops, num_left, sources)]


def _small_models(job: Job) -> list[str]:
    """Returns a line for each tokenizer that has fewer subwords than it may have."""
    sizes = load_tokenizer(job.data_dir).vocab_sizes
    keys = ["source_vocab_size", "target_vocab_size"][: 1 if job.config.joint_vocabulary else 2]
    return [
        f"data.{key} is {getattr(job.config, key)}; the text gives {size} subwords"
        for key, size in zip(keys, sizes, strict=False)
        if size < getattr(job.config, key)
    ]


def _missing_splits(job: Job, counts: Counts) -> list[str]:
    """Returns a line for each held-out split that some language has too little text for."""
    config, lines = job.config, []
    is_new = " that earlier data don't train on" if len(np.load(job.trained)) else ""
    for split, wanted in (("dev", config.num_dev), ("test", config.num_test)):
        languages = [
            f"{name}-en"
            for name, splits in counts.items()
            if wanted and splits["train"].pairs and not splits[split].pairs
        ]
        if languages:
            lines.append(
                f"no {split} pairs: {', '.join(languages)}, too little text{is_new} to hold some "
                "out; "
                f"gshard-eval --split {split} leaves out what has none"
            )
    return lines


def _describe(job: Job, counts: Counts, drops: Drops) -> dict[str, Any]:
    tokenizer = load_tokenizer(job.data_dir)
    config = dataclasses.asdict(job.config)
    del config["num_workers"]  # does not change the output
    del config["augmentation"]  # what matters of it is in the identity
    return {
        "format_version": FORMAT_VERSION,
        "finished": True,
        "recipe": {"name": job.recipe.name, "corpora": _sources(job.recipe)},
        "config": config,
        "tokenizer": _describe_tokenizer(tokenizer),
        "pairs": {
            f"{name}-en": {
                split: {
                    "pairs": each.pairs,
                    "source_tokens": each.source.tokens,
                    "target_tokens": each.target.tokens,
                }
                | ({"corpora": _corpora(job.recipe, each)} if split == "train" else {})
                for split, each in splits.items()
            }
            | {"drops": drops.counts(name)}
            for name, splits in counts.items()
        },
    }


def _corpora(recipe: Recipe, counts: SplitCounts) -> list[dict]:
    """Returns the corpora of a language's training pairs, in the order of their records."""
    return [
        {
            "name": recipe.entries[corpus].corpus_name,
            "weight": recipe.entries[corpus].weight,
            **each._asdict(),
        }
        for corpus, each in sorted(counts.corpora.items())
    ]


def _describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    source_size, target_size = tokenizer.vocab_sizes
    return {"hash": tokenizer.hash, "source_size": source_size, "target_size": target_size}


def _sources(recipe: Recipe) -> list[dict]:
    return [
        {
            "name": entry.corpus_name,
            "languages": list(entry.languages),
            "split": entry.split,
            "source": f"{entry.scheme}:{os.path.basename(entry.location)}",
            "license": entry.license,
            "sha256": entry.sha256,
            "bytes": num_bytes(entry),
        }
        for entry in recipe.entries
    ]
