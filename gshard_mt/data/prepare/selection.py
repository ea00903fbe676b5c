"""Selection: decides by their keys which clean pairs of a language are training pairs."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import CleaningConfig, DataConfig
from gshard_mt.data.prepare.blocks import (
    StoredBlock,
    read_keys,
    read_pairs,
    read_repeats,
    write_drops,
    write_repeats,
)
from gshard_mt.data.prepare.dedup import DUPLICATE, KEPT, NEAR_DUPLICATE, find_duplicates_on_disk
from gshard_mt.data.prepare.drops import NUM_SAMPLES, DropKey, Drops, Tally
from gshard_mt.data.prepare.held_out import (
    Candidates,
    Keys,
    candidates,
    choose_held_out,
    merge_candidates,
    pick_rows,
)
from gshard_mt.data.prepare.keys import KEYS, KeyedPairs, Split, is_among
from gshard_mt.errors import DataError

# Numbers of write_drops, after KEPT, DUPLICATE and NEAR_DUPLICATE.
HELD_OUT, _IS_HELD_OUT, _MAX_PAIRS = 3, 4, 5
_REASONS = {DUPLICATE: "duplicate", NEAR_DUPLICATE: "near_duplicate", HELD_OUT: "held_out"}
_REASONS |= {_MAX_PAIRS: "max_pairs"}

_MERGE_PARTS = 16  # blocks whose candidates are merged at once


class HeldOutChoice(NamedTuple):
    """Keys of the held-out English strings, and how many pairs each language holds out."""

    keys: dict[str, Keys]  # by split
    wanted: dict[str, dict[str, int]]  # by language, split


def drop_duplicates(
    blocks: Sequence[StoredBlock], config: CleaningConfig, seed: int
) -> tuple[int, Candidates]:
    """Marks duplicates in a language's training blocks, which are ordered by their ids.

    Returns how many pairs are left, and the candidates among them.
    """
    ends = np.cumsum([block.num_pairs for block in blocks])
    drop = find_duplicates_on_disk(map(read_keys, blocks), int(ends[-1]), blocks[0].path.parent)
    drop = forgive_duplicates(drop, config)
    parts: list[Candidates] = []
    for block, part in zip(blocks, np.split(drop, ends[:-1]), strict=True):
        write_repeats(block, part)
        parts.append(candidates(read_keys(block)[part == KEPT], seed))
        if len(parts) == _MERGE_PARTS:
            parts = [merge_candidates(parts, seed)]
    return int(np.sum(drop == KEPT)), merge_candidates(parts, seed)


def forgive_duplicates(drop: np.ndarray, config: CleaningConfig) -> np.ndarray:
    """Returns the result of find_duplicates without the kinds that the config keeps."""
    is_off = (drop == DUPLICATE) & (not config.duplicates)
    is_off |= (drop == NEAR_DUPLICATE) & (not config.near_duplicates)
    return np.where(is_off, KEPT, drop).astype(np.uint8)


def choose(
    config: DataConfig,
    found: Mapping[str, Candidates],
    num_pairs: Mapping[str, int],
    given: Mapping[Split, Keys],
    earlier: Mapping[str, Keys],
) -> HeldOutChoice:
    """Chooses the held-out strings of the languages with candidates.

    `given` are the English keys of the ready-made splits, `earlier` those of the splits of earlier
    data. Raises DataError if there is no language.
    """
    if not found:
        raise no_training_pair(config)
    num_wanted = {"test": config.num_test, "dev": config.num_dev}
    wanted = {
        name: {split: num for split, num in num_wanted.items() if (name, split) not in given}
        for name in found
    }
    given_keys = {
        split: np.concatenate(
            [
                earlier.get(split, np.zeros(0, np.uint64)),
                *(given[key] for key in given if key[1] == split),
            ]
        )
        for split in num_wanted
    }
    return HeldOutChoice(choose_held_out(found, num_pairs, wanted, given_keys, config.seed), wanted)


def no_training_pair(config: DataConfig) -> DataError:
    """Returns the error for a recipe of which nothing is left."""
    return DataError(
        f"{config.recipe}: after cleaning no training pair is left; the same command with "
        "--dry_run tells which filter drops what"
    )


def pick_held_out(
    blocks: Sequence[StoredBlock],
    num_wanted: Mapping[str, int],
    held_out: Mapping[str, Keys],
    seed: int,
) -> dict[str, KeyedPairs]:
    """Returns a language's dev and test: up to `num_wanted` pairs with held-out English."""
    picked = {split: join_pairs([]) for split in num_wanted}
    for block in blocks:
        drop = read_repeats(block)
        for split in num_wanted:
            some = pick_pairs(block, drop, held_out[split], seed)
            if some.source:
                picked[split] = merge_picked([picked[split], some], seed)
    return {split: pairs.take(num_wanted[split]) for split, pairs in picked.items()}


def pick_pairs(block: StoredBlock, drop: np.ndarray, held_out: Keys, seed: int) -> KeyedPairs:
    """Returns a block's kept pairs with held-out English, one for each string."""
    rows = pick_rows(read_keys(block), drop == KEPT, held_out, seed)
    return read_pairs(block).rows(rows) if len(rows) else join_pairs([])


def merge_picked(parts: Iterable[KeyedPairs], seed: int) -> KeyedPairs:
    """Returns what `pick_pairs` would for all blocks, from its results for parts of them."""
    pairs = join_pairs(parts)
    is_free, english = np.ones(len(pairs.keys), bool), np.unique(pairs.keys["english"])
    rows = pick_rows(pairs.keys, is_free, english, seed)
    return pairs.rows(rows)


def gather_keys(
    held_out: Iterable[np.ndarray], choice: HeldOutChoice, keep_out: Keys
) -> tuple[Keys, np.ndarray]:
    """Returns the sorted keys of all sentences not to train on, and the sorted ids of their pairs.

    `held_out` are the KEYS of all held-out pairs.
    """
    keys = np.concatenate([np.zeros(0, KEYS), *held_out])
    sentences = [keys["source"], keys["english"], keep_out, *choice.keys.values()]
    return np.unique(np.concatenate(sentences)), np.sort(keys["id"])


def drop_held_out(
    language: str,
    blocks: Sequence[StoredBlock],
    held_out: Keys,
    ids: np.ndarray,
    most: Mapping[int, int],
) -> tuple[int, Drops]:
    """Marks pairs that share a sentence with held-out text, and what is over a corpus's `most`.

    Returns how many are left, and those dropped for all reasons of this file.
    """
    num_kept: Counter[int] = Counter()  # of each corpus
    marked = []
    for block in blocks:
        drop = mark_held_out(read_keys(block), read_repeats(block), held_out, ids)
        marked.append(drop)
        num_kept[block.corpus] += int(np.sum(drop == KEPT))
    drops, num_pairs = Drops(), 0
    num_before: Counter[int] = Counter()
    for block, drop in zip(blocks, marked, strict=True):
        if (corpus := block.corpus) in most:
            counts = num_before[corpus], num_kept[corpus]
            num_before[corpus] += int(np.sum(drop == KEPT))
            drop = mark_surplus(drop, *counts, most[corpus])
        write_drops(block, drop)
        count_drops(language, block, drop, drops)
        num_pairs += int(np.sum(drop == KEPT))
    return num_pairs, drops


def mark_held_out(
    keys: np.ndarray, drop: np.ndarray, held_out: Keys, ids: np.ndarray
) -> np.ndarray:
    """Returns `drop` with the pairs marked that share a sentence with held-out text.

    The last two are what `gather_keys` returned: held-out pairs themselves don't count as drops.
    """
    is_held_out = is_among(keys["source"], held_out) | is_among(keys["english"], held_out)
    number = np.where(is_among(keys["id"], ids), _IS_HELD_OUT, HELD_OUT)
    return np.where(is_held_out & (drop == KEPT), number, drop).astype(np.uint8)


def mark_surplus(drop: np.ndarray, num_before: int, num_kept: int, most: int) -> np.ndarray:
    """Returns `drop` with all but `most` of a corpus's kept pairs marked, evenly spread over it.

    The corpus has `num_kept` of them, `num_before` in blocks before this one.
    """
    if num_kept <= most:
        return drop
    rows = np.flatnonzero(drop == KEPT)
    number = num_before + np.arange(len(rows))  # in the corpus
    is_over = (number + 1) * most // num_kept == number * most // num_kept
    drop = drop.copy()
    drop[rows[is_over]] = _MAX_PAIRS
    return drop


def read_kept(block: StoredBlock, drop: np.ndarray) -> KeyedPairs:
    """Returns the pairs of a block that are not dropped."""
    return read_pairs(block).rows(np.flatnonzero(drop == KEPT))


def join_pairs(parts: Iterable[KeyedPairs]) -> KeyedPairs:
    """Returns all pairs as one record."""
    source: list[str] = []
    english: list[str] = []
    keys = [np.zeros(0, KEYS)]
    for part in parts:
        source += part.source
        english += part.english
        keys.append(part.keys)
    return KeyedPairs(source, english, np.concatenate(keys))


def count_drops(language: str, block: StoredBlock, drop: np.ndarray, drops: Drops) -> None:
    """Adds a block's dropped pairs to `drops`."""
    for number, reason in _REASONS.items():
        rows = np.flatnonzero(drop == number)
        if len(rows):
            key, samples = DropKey(language, block.corpus, reason), ()
            # Blocks are in the order of ids: those of later ones aren't among the lowest.
            if len(drops.tallies.get(key, Tally()).samples) < NUM_SAMPLES:
                pairs = read_pairs(block).rows(rows[:NUM_SAMPLES])
                samples = pairs.as_dropped()
            drops.add(key, Tally(len(rows), samples))
