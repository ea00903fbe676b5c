"""Clean rows: turns a block as read into the pairs to train on, with their keys."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import numpy as np

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.calibration import Calibration
from gshard_mt.data.cleaning.clean import REASONS, clean, normalize_all
from gshard_mt.data.cleaning.fold import fold_all, hash_texts, near_forms
from gshard_mt.data.cleaning.placeholders import is_testable_all, num_words_all
from gshard_mt.data.normalization import one_line
from gshard_mt.data.prepare.blocks import RawBlock, StoredBlock, write_block
from gshard_mt.data.prepare.drops import NUM_SAMPLES, READ, DropKey, Drops, Tally, dropped_pair
from gshard_mt.data.prepare.keys import KEYS, KeyedPairs, is_among, join_keys
from gshard_mt.data.prepare.samples import StoredCalibration, load_calibration


def clean_rows(
    raw: RawBlock,
    config: CleaningConfig,
    calibration: Calibration | None = None,
    trained: np.ndarray | None = None,
) -> tuple[KeyedPairs, Drops]:
    """Returns the pairs that pass, and the dropped ones by tag.

    Those with one of the sorted keys `trained` can't test translation.

    Ready-made dev and test pairs are scored as they are, so they are stored as they are: only those
    with an empty side are dropped. Their keys are those of the normalized text.
    """
    drops = Drops()
    drops.add(DropKey(raw.tag, raw.corpus, READ), Tally(len(raw.source)))
    if raw.split == "train":
        source, english, reason, folded = clean(
            raw.source, raw.english, raw.tag, config, calibration
        )
        reasons = dict(enumerate(REASONS, 1))
        stored = [source, english]
    else:
        stored = [list(map(one_line, side)) for side in (raw.source, raw.english)]
        source, english = normalize_all(raw.source), normalize_all(raw.english)
        folded = fold_all(source), fold_all(english)
        is_empty = [not (a and b) for a, b in zip(source, english, strict=True)]
        reason, reasons = np.array(is_empty, np.uint8), {1: "empty"}
    for number, name in reasons.items():
        rows = np.flatnonzero(reason == number)
        if len(rows):
            samples = [
                dropped_pair(int(raw.id[i]), source[i], english[i]) for i in rows[:NUM_SAMPLES]
            ]
            drops.add(DropKey(raw.tag, raw.corpus, name), Tally(len(rows), tuple(samples)))
    sides = [*stored, source, english, *folded]
    kept = np.flatnonzero(reason == 0)
    if len(kept) < len(source):
        sides = [[side[row] for row in kept] for side in sides]
    keys = _keys(raw.id[kept], *sides[2:])
    if trained is not None:
        keys["num_words"][
            is_among(keys["source"], trained) | is_among(keys["english"], trained)
        ] = 0
    return KeyedPairs(sides[0], sides[1], keys), drops


def clean_block(
    raw: RawBlock,
    config: CleaningConfig,
    folder: pathlib.Path,
    stored: StoredCalibration | None = None,
    trained: pathlib.Path | None = None,
) -> tuple[int, StoredBlock | None, Drops]:
    """Cleans a block and writes it to `folder`; returns its number of pairs and what is left.

    `trained` is the file of the keys of `clean_rows`.
    """
    keys = np.load(trained, mmap_mode="r") if trained else None
    rows, drops = clean_rows(raw, config, load_calibration(stored) if stored else None, keys)
    block = write_block(raw, *rows, folder) if len(rows.keys) else None
    return len(raw.source), block, drops


def _keys(
    id: np.ndarray,
    source: list[str],
    english: list[str],
    folded_source: list[str],
    folded_english: list[str],
) -> np.ndarray:
    keys = np.zeros(len(id), KEYS)
    keys["id"] = id
    keys["source"], keys["english"] = hash_texts(folded_source), hash_texts(folded_english)
    near_source = _near_keys(keys["source"], folded_source)
    keys["near"] = join_keys(near_source, _near_keys(keys["english"], folded_english))
    keys["pair"] = hash_texts([f"{s}\t{e}" for s, e in zip(source, english, strict=True)])
    num_words = num_words_all(english)
    is_test = is_testable_all(english, num_words)
    keys["num_words"] = np.where(is_test, np.minimum(num_words, 255), 0)
    return keys


def _near_keys(keys: np.ndarray, folded: list[str]) -> np.ndarray:
    """Returns the hashes of near forms, reusing `keys` where the near form is the folded text."""
    near = near_forms(folded)
    rows = [row for row, form in enumerate(near) if form is not folded[row]]
    hashes = keys.copy()
    hashes[rows] = hash_texts([near[row] for row in rows])
    return hashes
