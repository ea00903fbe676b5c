"""The local pipeline: processes of one machine clean, select, train subwords and write shards."""
# SPDX-License-Identifier: Apache-2.0

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from gshard_mt.data.corpora.entry import SPLITS
from gshard_mt.data.corpora.files import num_bytes_read
from gshard_mt.data.corpora.readers import num_bytes
from gshard_mt.data.corpora.recipe import Recipe
from gshard_mt.data.prepare.blocks import RawBlock, StoredBlock, read_blocks
from gshard_mt.data.prepare.clean_rows import clean_block
from gshard_mt.data.prepare.drops import Drops
from gshard_mt.data.prepare.held_out import choose_held_out, wanted_pairs
from gshard_mt.data.prepare.job import Job, PipelineOutput, no_training_pair
from gshard_mt.data.prepare.keys import KeyedPairs
from gshard_mt.data.prepare.selection import (
    drop_duplicates,
    drop_held_out,
    keys_of,
    pick_held_out,
    read_pairs,
)
from gshard_mt.data.prepare.shards import SHARD_BLOCKS, Shard, write_blocks, write_pairs
from gshard_mt.data.prepare.subwords import TextSample, sample_sizes, train_vocabulary
from gshard_mt.data.prepare.workers import Workers, run_alone
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.languages import merge_locales

Blocks = dict[str, dict[str, list[StoredBlock]]]  # language -> split -> blocks in the order of ids
HeldOut = dict[str, dict[str, KeyedPairs]]  # language -> dev, test -> pairs
Shards = dict[str, dict[str, list[Shard]]]


def run_locally(job: Job) -> PipelineOutput:
    """Runs a job in `data.num_workers` processes, with a progress bar on standard error."""
    with Workers(job.config.num_workers) as workers:
        drops = Drops()
        blocks = _clean(job, workers, drops)
        held_out, num_train = _select(job, workers, blocks, drops)
        _train_vocabulary(job, workers, blocks, num_train)
        references = {
            name: {split: pairs.sentences() for split, pairs in splits.items()}
            for name, splits in held_out.items()
        }
        return PipelineOutput(_write(job, workers, blocks, held_out), references, drops)


def _clean(job: Job, workers: Workers, drops: Drops) -> Blocks:
    blocks: list[StoredBlock] = []
    dropped = Drops()
    tags: set[str] = set()
    with _progress("cleaning") as bar:
        tasks = ((raw, job.config.cleaning, job.work) for raw in _read(job.recipe, tags, bar))
        for num_pairs, block, more in workers.map(clean_block, tasks):
            bar.update(num_pairs)
            dropped.merge(more)
            blocks += [block] if block else []
    languages = merge_locales(sorted(tags))
    drops.merge(dropped, languages)
    found: Blocks = {}
    for language in sorted(set(languages.values())):
        found[language] = {split: [] for split in SPLITS}
    for block in sorted(blocks, key=lambda block: block.first_id):
        found[languages[block.tag]][block.split].append(block)
    return found


def _read(recipe: Recipe, tags: set[str], bar: tqdm) -> Iterator[RawBlock]:
    sizes = [num_bytes(entry) for entry in recipe.entries]
    num_pairs = done = 0
    for number, (entry, size) in enumerate(zip(recipe.entries, sizes, strict=True)):
        bar.set_postfix_str(f"corpus {number + 1} of {len(recipe.entries)}", refresh=False)
        start = num_bytes_read()
        for raw in read_blocks(entry, number):
            tags.add(raw.tag)
            num_pairs += len(raw.source)
            if so_far := done + min(size, num_bytes_read() - start):
                bar.total = num_pairs * sum(sizes) // so_far  # for the time left
            yield raw
        done += size


def _select(
    job: Job, workers: Workers, blocks: Blocks, drops: Drops
) -> tuple[HeldOut, dict[str, int]]:
    """Marks the pairs not to train on; returns the held-out ones and how many are left."""
    config = job.config
    trained = [name for name in blocks if blocks[name]["train"]]
    if not trained:
        raise no_training_pair(job)
    tasks = [(name, blocks[name]["train"], config.cleaning, config.seed) for name in trained]
    unique = dict(zip(trained, _each(workers, "duplicates", drop_duplicates, tasks), strict=True))
    for each in unique.values():
        drops.merge(each.drops)
    held_out = {
        name: {split: read_pairs(blocks[name][split]) for split in ("dev", "test")}
        for name in blocks
    }
    given = {
        split: keys_of([pairs[split] for pairs in held_out.values()], ["english"])
        for split in ("dev", "test")
    }
    wanted = {
        name: wanted_pairs(config, [s for s, pairs in held_out[name].items() if pairs.source])
        for name in trained
    }
    keys = choose_held_out(
        {name: each.candidates for name, each in unique.items()},
        {name: each.num_pairs for name, each in unique.items()},
        wanted,
        given,
        config.seed,
    )
    tasks = [(blocks[name]["train"], wanted[name], keys, config.seed) for name in trained]
    for name, picked in zip(
        trained, _each(workers, "held-out text", pick_held_out, tasks), strict=True
    ):
        held_out[name] |= picked
    every = [pairs for splits in held_out.values() for pairs in splits.values()]
    sentences = keys_of(every, ["source", "english"])
    sentences = np.unique(np.concatenate([sentences, job.keep_out, *keys.values()]))
    tasks = [(name, blocks[name]["train"], sentences, _ids_of(held_out[name])) for name in trained]
    num_train = {}
    for name, (number, more) in zip(
        trained, _each(workers, "overlap with it", drop_held_out, tasks), strict=True
    ):
        num_train[name] = number
        drops.merge(more)
    if not any(num_train.values()):
        raise no_training_pair(job)
    return held_out, num_train


def _ids_of(splits: dict[str, KeyedPairs]) -> np.ndarray:
    return np.concatenate([pairs.keys["id"] for pairs in splits.values()])


def _train_vocabulary(
    job: Job, workers: Workers, blocks: Blocks, num_train: dict[str, int]
) -> None:
    sizes = sample_sizes(num_train, job.config)
    samples = [
        TextSample(blocks[name]["train"], num_train[name], sizes[name]) for name in num_train
    ]
    run = run_alone if workers.num > 1 else lambda function, *task: function(*task)
    with _progress("training subwords", 1, "vocabulary") as bar:
        run(train_vocabulary, samples, job.config, job.data_dir / "tokenizer")
        bar.update()


def _write(job: Job, workers: Workers, blocks: Blocks, held_out: HeldOut) -> Shards:
    tokenizer = load_tokenizer(job.data_dir)
    shards: Shards = {name: {split: [] for split in SPLITS} for name in blocks}
    tasks = []
    for name in blocks:
        train = blocks[name]["train"]
        for start in range(0, len(train), SHARD_BLOCKS):
            path = job.work / f"{name}-{start}.shard"
            some = train[start : start + SHARD_BLOCKS]
            tasks.append((some, name, path, job.config, job.data_dir, tokenizer.hash))
    with _progress("writing", sum(block.num_pairs for task in tasks for block in task[0])) as bar:
        for task, shard in zip(tasks, workers.map(write_blocks, tasks), strict=True):
            bar.update(sum(block.num_pairs for block in task[0]))
            shards[task[1]]["train"].append(shard)
    for name, splits in held_out.items():
        for split, pairs in splits.items():
            path = job.work / f"{name}.{split}.shard"
            shards[name][split] = [write_pairs([pairs], (name, split), path, tokenizer, job.config)]
    return shards


def _each(workers: Workers, what: str, function, tasks: list[tuple]) -> Iterator[Any]:
    with _progress(what, len(tasks), "languages") as bar:
        for result in workers.map(function, tasks):
            bar.update()
            yield result


def _progress(what: str, total: int | None = None, unit: str = "pairs") -> tqdm:
    return tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        unit_scale=True,
        leave=False,
        delay=0.5,
        file=sys.stderr,
    )
