"""The local pipeline: processes of one machine clean, select, train subwords and write shards."""
# SPDX-License-Identifier: Apache-2.0

import functools
import itertools
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from gshard_mt.console import Bar
from gshard_mt.data.corpora.entry import Entry
from gshard_mt.data.corpora.files import num_bytes_read
from gshard_mt.data.corpora.readers import num_bytes
from gshard_mt.data.corpora.recipe import Recipe
from gshard_mt.data.prepare.blocks import RawBlock, StoredBlock, read_blocks, read_pairs
from gshard_mt.data.prepare.clean_rows import clean_block
from gshard_mt.data.prepare.drops import Drops
from gshard_mt.data.prepare.job import Job, PipelineOutput
from gshard_mt.data.prepare.keys import KeyedPairs, Split
from gshard_mt.data.prepare.samples import (
    Calibrations,
    StoredSample,
    calibrate_sample,
    draw_samples,
    lines_of,
    needs_samples,
)
from gshard_mt.data.prepare.selection import (
    choose,
    drop_duplicates,
    drop_held_out,
    gather_keys,
    join_pairs,
    pick_held_out,
)
from gshard_mt.data.prepare.shards import SHARD_BLOCKS, Shard, write_blocks, write_pairs
from gshard_mt.data.prepare.subwords import TextSample, read_samples, sample_sizes, train_models
from gshard_mt.data.prepare.workers import Workers, local_workers, run_alone
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.languages import merge_locales

Blocks = dict[Split, list[StoredBlock]]  # in the order of ids
TrainBlocks = dict[str, list[StoredBlock]]  # of each language that has any, in the order of ids
HeldOut = dict[Split, KeyedPairs]


def run_locally(job: Job) -> PipelineOutput:
    """Runs a job in `data.num_workers` processes, with a progress bar on standard error."""
    with local_workers(job.config.num_workers) as workers:
        return run_on(workers, job)


def run_on(workers: Workers, job: Job) -> PipelineOutput:
    """Runs a job whose tasks are those of `workers`; a task that is run again changes nothing."""
    drops = Drops()
    calibrations = _calibrate(job, workers)
    languages, blocks = _clean(job, workers, calibrations, drops)
    train = {name: blocks[name, "train"] for name in languages if (name, "train") in blocks}
    held_out = {
        key: join_pairs(map(read_pairs, some)) for key, some in blocks.items() if key[1] != "train"
    }
    num_train = _select(job, workers, train, held_out, drops)
    _train_vocabulary(job, workers, train, num_train)
    references = {key: pairs.sentences() for key, pairs in held_out.items()}
    shards = _write(job, workers, train, held_out)
    notes = [(each.corpus, each.tag, each.notes) for each in calibrations.values()]
    return PipelineOutput(languages, shards, references, drops, lines_of(notes))


def _calibrate(job: Job, workers: Workers) -> Calibrations:
    """Returns how the filters are calibrated for each tag of each corpus."""
    # Those with a source in common are drawn by one worker: it may have to be downloaded.
    sources: dict[tuple[str, str], list[tuple[Entry, int]]] = defaultdict(list)
    for number, entry in enumerate(job.recipe.entries):
        if needs_samples(entry, job.config.cleaning):
            sources[entry.scheme, entry.location].append((entry, number))
    tasks = [(some, job.work) for some in sources.values()]
    drawn = _each(workers, "samples", _draw_samples, tasks, "source")
    samples: list[StoredSample] = sorted(itertools.chain.from_iterable(drawn))
    tasks = [(sample, samples, job.cleaning(sample.corpus, sample.tag)) for sample in samples]
    found = _each(workers, "calibration", calibrate_sample, tasks)
    return {(each.corpus, each.tag): each for each in found}


def _draw_samples(entries: Sequence[tuple[Entry, int]], folder: pathlib.Path) -> list[StoredSample]:
    return [each for entry, number in entries for each in draw_samples(entry, number, folder)]


def _clean(
    job: Job, workers: Workers, calibrations: Calibrations, drops: Drops
) -> tuple[list[str], Blocks]:
    """Returns the recipe's languages and the clean blocks of each split."""
    blocks: list[StoredBlock] = []
    dropped = Drops()
    tags: set[str] = set()
    with _progress("cleaning") as bar:
        tasks = (
            (
                raw,
                job.cleaning(raw.corpus, raw.tag),
                job.work,
                calibrations.get((raw.corpus, raw.tag)),
                job.trained,
            )
            for raw in _read(job.recipe, tags, bar)
        )
        for num_pairs, block, more in workers.map(clean_block, tasks):
            bar.update(num_pairs)
            dropped.merge(more)
            blocks += [block] if block else []
    languages = merge_locales(sorted(tags))
    drops.merge(dropped, languages)
    found: Blocks = defaultdict(list)
    for block in sorted(blocks, key=lambda block: block.first_id):
        found[languages[block.tag], block.split].append(block)
    return sorted(set(languages.values())), found


def _read(recipe: Recipe, tags: set[str], bar: Bar) -> Iterator[RawBlock]:
    sizes = [num_bytes(entry) for entry in recipe.entries]
    num_pairs = done = 0
    for number, (entry, size) in enumerate(zip(recipe.entries, sizes, strict=True)):
        bar.note(entry.corpus_name)
        start = num_bytes_read()
        for raw in read_blocks(entry, number):
            tags.add(raw.tag)
            num_pairs += len(raw.source)
            if so_far := done + min(size, num_bytes_read() - start):
                bar.expect(num_pairs * sum(sizes) // so_far)  # for the time left
            yield raw
        done += size


def _select(
    job: Job, workers: Workers, train: TrainBlocks, held_out: HeldOut, drops: Drops
) -> dict[str, int]:
    """Marks the pairs not to train on and adds the held-out ones; returns how many are left."""
    config = job.config
    tasks = [(blocks, config.cleaning, config.seed) for blocks in train.values()]
    unique = dict(zip(train, _each(workers, "duplicates", drop_duplicates, tasks), strict=True))
    choice = choose(
        config,
        {name: candidates for name, (_, candidates) in unique.items()},
        {name: number for name, (number, _) in unique.items()},
        {key: pairs.keys["english"] for key, pairs in held_out.items()},
        job.held_out,
    )
    tasks = [(train[name], choice.wanted[name], choice.keys, config.seed) for name in train]
    each_picked = _each(workers, "held-out text", pick_held_out, tasks)
    for name, picked in zip(train, each_picked, strict=True):
        held_out |= {(name, split): pairs for split, pairs in picked.items()}
    sentences, ids = gather_keys((pairs.keys for pairs in held_out.values()), choice, job.keep_out)
    most = job.recipe.max_pairs()
    tasks = [(name, blocks, sentences, ids, most) for name, blocks in train.items()]
    num_train = {}
    each_left = _each(workers, "overlap with it", drop_held_out, tasks)
    for name, (number, dropped) in zip(train, each_left, strict=True):
        num_train[name] = number
        drops.merge(dropped)
    return num_train


def _train_vocabulary(
    job: Job, workers: Workers, train: TrainBlocks, num_train: dict[str, int]
) -> None:
    sizes = sample_sizes(num_train, job.config)
    if job.config.tokenizer:
        return  # it is there
    samples = [TextSample(train[name], num_train[name], sizes[name]) for name in train]
    run = run_alone if workers.count() > 1 else lambda function, *task: function(*task)
    with _progress("training subwords", 1, "vocabulary") as bar:
        read = functools.partial(read_samples, samples)
        run(train_models, read, job.config, job.data_dir)
        bar.update()


def _write(
    job: Job, workers: Workers, train: TrainBlocks, held_out: HeldOut
) -> dict[Split, list[Shard]]:
    tokenizer = load_tokenizer(job.data_dir)
    shards: dict[Split, list[Shard]] = defaultdict(list)
    tasks = []
    for name, blocks in train.items():
        for start in range(0, len(blocks), SHARD_BLOCKS):
            path = job.work / f"{name}-{start}.shard"
            some = blocks[start : start + SHARD_BLOCKS]
            tasks.append((some, name, path, job.config, job.data_dir, tokenizer.hash))
    with _progress("writing", sum(block.num_pairs for task in tasks for block in task[0])) as bar:
        for task, shard in zip(tasks, workers.map(write_blocks, tasks), strict=True):
            bar.update(sum(block.num_pairs for block in task[0]))
            shards[task[1], "train"].append(shard)
    for key, pairs in held_out.items():
        path = job.work / f"{'.'.join(key)}.shard"
        shards[key] = [write_pairs([pairs], key, path, tokenizer, job.config)]
    return shards


def _each(
    workers: Workers, what: str, function, tasks: list[tuple], unit: str = "language"
) -> Iterator[Any]:
    with _progress(what, len(tasks), unit) as bar:
        for result in workers.map(function, tasks):
            bar.update()
            yield result


def _progress(what: str, total: int | None = None, unit: str = "pair") -> Bar:
    return Bar(what, unit, total, unit_scale=True, leave=False, delay=0.5)
