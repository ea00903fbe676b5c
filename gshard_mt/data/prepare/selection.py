"""Selection: decides by their keys which clean pairs of a language are training pairs."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.prepare.blocks import StoredBlock, read_drops, read_keys, read_text, write_drops
from gshard_mt.data.prepare.dedup import DUPLICATE, KEPT, NEAR_DUPLICATE, find_duplicates_on_disk
from gshard_mt.data.prepare.drops import NUM_SAMPLES, Drops
from gshard_mt.data.prepare.held_out import (
    Candidates,
    candidates,
    merge_candidates,
    pick_rows,
)
from gshard_mt.data.prepare.keys import KEYS, KeyedPairs, is_among

# Numbers of write_drops, after KEPT, DUPLICATE and NEAR_DUPLICATE.
HELD_OUT, _IS_HELD_OUT = 3, 4
DUPLICATES = (DUPLICATE, NEAR_DUPLICATE)
_REASONS = {DUPLICATE: "duplicate", NEAR_DUPLICATE: "near_duplicate", HELD_OUT: "held_out"}

_MERGE_PARTS = 16  # blocks whose candidates are merged at once

HeldOutKeys = Mapping[str, np.ndarray]  # split -> sorted keys of English strings


class DedupResult(NamedTuple):
    """What is left of a language after its duplicates were marked."""

    num_pairs: int
    candidates: Candidates
    drops: Drops


def drop_duplicates(
    language: str, blocks: Sequence[StoredBlock], config: CleaningConfig, seed: int
) -> DedupResult:
    """Marks duplicates in a language's training blocks, which are ordered by their ids."""
    num_rows = sum(block.num_pairs for block in blocks)
    drop = find_duplicates_on_disk(map(read_keys, blocks), num_rows, blocks[0].path.parent)
    drop = forgive_duplicates(drop, config)
    parts: list[Candidates] = []
    drops, start = Drops(), 0
    for block in blocks:
        part = drop[start : start + block.num_pairs]
        start += block.num_pairs
        write_drops(block, part)
        count_drops(language, block, part, DUPLICATES, drops)
        parts.append(candidates(read_keys(block)[part == 0], seed))
        if len(parts) == _MERGE_PARTS:
            parts = [merge_candidates(parts, seed)]
    return DedupResult(int(np.sum(drop == 0)), merge_candidates(parts, seed), drops)


def forgive_duplicates(drop: np.ndarray, config: CleaningConfig) -> np.ndarray:
    """Returns the result of find_duplicates without the kinds that the config keeps."""
    is_off = (drop == DUPLICATE) & (not config.duplicates)
    is_off |= (drop == NEAR_DUPLICATE) & (not config.near_duplicates)
    return np.where(is_off, KEPT, drop).astype(np.uint8)


def pick_held_out(
    blocks: Sequence[StoredBlock], num_wanted: Mapping[str, int], held_out: HeldOutKeys, seed: int
) -> dict[str, KeyedPairs]:
    """Returns a language's dev and test: up to `num_wanted` pairs with held-out English."""
    picked = {split: join_pairs([]) for split in num_wanted}
    for block in blocks:
        drop = read_drops(block)
        for split in num_wanted:
            some = pick_pairs(block, drop, held_out[split], seed)
            if some.source:
                picked[split] = merge_picked([picked[split], some], seed)
    return {split: pairs.take(num_wanted[split]) for split, pairs in picked.items()}


def pick_pairs(block: StoredBlock, drop: np.ndarray, held_out: np.ndarray, seed: int) -> KeyedPairs:
    """Returns a block's kept pairs with held-out English, one for each string."""
    keys = read_keys(block)
    rows = pick_rows(keys, drop == 0, held_out, seed)
    return KeyedPairs(*read_text(block), keys).rows(rows) if len(rows) else join_pairs([])


def merge_picked(parts: Iterable[KeyedPairs], seed: int) -> KeyedPairs:
    """Returns what `pick_pairs` would for all blocks, from its results for parts of them."""
    pairs = join_pairs(parts)
    is_free, english = np.ones(len(pairs.keys), bool), np.unique(pairs.keys["english"])
    rows = pick_rows(pairs.keys, is_free, english, seed)
    return pairs.rows(rows)


def drop_held_out(
    language: str, blocks: Sequence[StoredBlock], held_out: np.ndarray, own_ids: np.ndarray
) -> tuple[int, Drops]:
    """Marks pairs that share a sentence with held-out text; returns how many are left."""
    drops, num_pairs = Drops(), 0
    for block in blocks:
        before = read_drops(block)
        drop = mark_held_out(read_keys(block), before, held_out, own_ids)
        if (drop != before).any():
            write_drops(block, drop)
            count_drops(language, block, drop, [HELD_OUT], drops)
        num_pairs += int(np.sum(drop == 0))
    return num_pairs, drops


def mark_held_out(
    keys: np.ndarray, drop: np.ndarray, held_out: np.ndarray, own_ids: np.ndarray
) -> np.ndarray:
    """Returns `drop` with the pairs marked that share a sentence with held-out text.

    `held_out` are the sorted keys of all held-out sentences, `own_ids` the ids of the held-out
    pairs themselves, which don't count as drops.
    """
    is_held_out = is_among(keys["source"], held_out) | is_among(keys["english"], held_out)
    is_held_out &= drop == 0
    drop = drop.copy()
    drop[is_held_out] = HELD_OUT
    drop[is_held_out & np.isin(keys["id"], own_ids)] = _IS_HELD_OUT
    return drop


def keys_of(parts: Iterable[KeyedPairs], fields: Sequence[str]) -> np.ndarray:
    """Returns the sorted keys of all sentences in `fields`: `source`, `english` or both."""
    keys = [part.keys[name] for part in parts for name in fields]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *keys]))


def read_pairs(blocks: Sequence[StoredBlock]) -> KeyedPairs:
    """Returns all pairs of the blocks of a ready-made split, which is small."""
    return join_pairs(KeyedPairs(*read_text(block), read_keys(block)) for block in blocks)


def read_kept(blocks: Iterable[StoredBlock], drops: Iterable[np.ndarray]) -> KeyedPairs:
    """Returns the pairs of blocks that are not dropped."""
    return join_pairs(
        KeyedPairs(*read_text(block), read_keys(block)).rows(np.flatnonzero(drop == 0))
        for block, drop in zip(blocks, drops, strict=True)
    )


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


def count_drops(
    language: str, block: StoredBlock, drop: np.ndarray, numbers: Sequence[int], drops: Drops
) -> None:
    """Adds a block's pairs to `drops` whose number in `drop` is one of `numbers`."""
    for number in numbers:
        rows = np.flatnonzero(drop == number)
        if len(rows):
            reason = _REASONS[number]
            samples = []
            if len(drops.samples.get((language, reason), [])) < NUM_SAMPLES:
                source, english = read_text(block)
                samples = [(source[i], english[i]) for i in rows[:NUM_SAMPLES]]
            drops.add(language, reason, len(rows), samples)
