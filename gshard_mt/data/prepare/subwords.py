"""Vocabulary: a bounded sample of the training text, by temperature, trains the subwords."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.data.mixture import temperature_shares
from gshard_mt.data.prepare.blocks import StoredBlock, read_drops, read_text
from gshard_mt.data.tokenizer import save_models, train_model

TRAINING_MARK = ".training"  # holds the trainer's process id while it runs


class TextSample(NamedTuple):
    """So many of a language's training pairs: evenly spaced, all of them repeated where few."""

    blocks: Sequence[StoredBlock]
    num_pairs: int  # kept ones in the blocks
    num_wanted: int


def sample_sizes(num_train: Mapping[str, int], config: DataConfig) -> dict[str, int]:
    """Returns how many pairs of each language train the subwords, by temperature."""
    shares = temperature_shares(list(num_train.values()), config.vocab_temperature)
    num_sentences = min(config.vocab_num_sentences, sum(num_train.values()))
    return {
        name: max(1, round(share * num_sentences)) if number else 0
        for (name, number), share in zip(num_train.items(), shares, strict=True)
    }


def train_vocabulary(
    samples: Sequence[TextSample], config: DataConfig, folder: pathlib.Path
) -> None:
    """Trains the models that the config asks for and writes them in `folder`."""
    train_models(
        lambda side: (line for sample in samples for line in lines(sample, side)), config, folder
    )


def train_models(
    read: Callable[[int], Iterable[str]], config: DataConfig, folder: pathlib.Path
) -> None:
    """The same from what `read` gives for side 0, the sources, and for side 1, the English."""
    if config.tokenizer:
        return  # it is there already
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / TRAINING_MARK
    mark.write_text(str(os.getpid()))
    symbols = config.user_symbols.split()
    try:
        models = {}
        for name, sides in _SIDES[config.joint_vocabulary].items():
            key = "target_vocab_size" if name == "target" else "source_vocab_size"
            models[name] = train_model(
                itertools.chain.from_iterable(map(read, sides)),
                getattr(config, key),
                f"data.{key}",
                character_coverage=config.character_coverage,
                user_symbols=symbols,
            )
        save_models(models, folder)
    finally:
        mark.unlink()


_SIDES = {False: {"source": (0,), "target": (1,)}, True: {"joint": (0, 1)}}


def lines(sample: TextSample, side: int) -> Iterator[str]:
    """Yields the texts of a sample, side 0 the sources, 1 the English."""
    start = 0
    for block in sample.blocks:
        kept = np.flatnonzero(read_drops(block) == 0)
        rows = kept[sample_places(start, len(kept), sample.num_pairs, sample.num_wanted)]
        if len(rows):
            text = read_text(block)[side]
            for row in rows:
                yield text[row]
        start += len(kept)


def sample_places(start: int, number: int, num_pairs: int, num_wanted: int) -> np.ndarray:
    """Returns what a sample takes of `number` pairs from the `start`-th on, of `num_pairs` in all.

    Counted from `start`; repeated where more are wanted than there are.
    """
    repeats, rest = divmod(num_wanted, max(1, num_pairs))
    # Evenly spaced, so that a part of a corpus stands for the whole of it: of the rest, the n-th is
    # n * num_pairs // rest.
    first, end = (-(-place * rest // max(1, num_pairs)) for place in (start, start + number))
    spaced = np.arange(first, end, dtype=np.int64) * num_pairs // max(1, rest) - start
    return np.concatenate([spaced, np.tile(np.arange(number), repeats)])
