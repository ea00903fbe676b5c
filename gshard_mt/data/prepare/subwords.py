"""Subwords: trains SentencePiece on a bounded sample of the text, drawn by temperature."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import io
import itertools
import os
import pathlib
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import sentencepiece

from gshard_mt.config.records import AugmentationConfig, DataConfig
from gshard_mt.data.case_marks import PIECES, mark_case
from gshard_mt.data.manifest import WORK
from gshard_mt.data.mixture import temperature_shares
from gshard_mt.data.perturbations import title_case, upper_case
from gshard_mt.data.prepare.blocks import StoredBlock, read_drops, read_text
from gshard_mt.data.prepare.extension import extend_model, piece_count, user_pieces
from gshard_mt.data.prepare.selection import no_training_pair
from gshard_mt.data.tokenizer import (
    FOLDER,
    Tokenizer,
    bos_id,
    eos_id,
    model_paths,
    pad_id,
    unk_id,
)
from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import open_path
from gshard_mt.storage.cache import local_copy

TRAINING_MARK = ".training"  # holds the trainer's process id while it runs
_MOST = re.compile(r"value <= (\d+)")  # in SentencePiece's error
_NEEDED = re.compile(r"smaller than required_chars\D*(\d+)\D+(\d+)")
_MOST_RARE = 0.1  # of a text that may be spelled as bytes where the vocabulary is too small for it
_GOLDEN_RATIO = 0.6180339887498949
_TRAINING_THREADS = 8  # the same on every machine: the order of sums depends on it
# The names of the models by `joint_vocabulary`, each with the sides that it is trained on.
_SIDES = {False: {"source": (0,), "target": (1,)}, True: {"joint": (0, 1)}}


class _SmallTextError(ConfigError):
    """The text yields fewer subwords than requested; holds the largest possible number."""

    def __init__(self, message: str, most: int):
        super().__init__(message)
        self.most = most


class _ManyCharactersError(ConfigError):
    """The characters of the text need more subwords; holds how many more."""

    def __init__(self, message: str, excess: int):
        super().__init__(message)
        self.excess = excess


class TextSample(NamedTuple):
    """`num_wanted` of a language's training pairs, evenly spaced; repeated if there are fewer."""

    blocks: Sequence[StoredBlock]
    num_pairs: int  # kept in the blocks
    num_wanted: int


def sample_sizes(num_train: Mapping[str, int], config: DataConfig) -> dict[str, int]:
    """Returns how many pairs of each language the subwords are trained on, by temperature.

    Raises DataError if no language has any.
    """
    if not any(num_train.values()):
        raise no_training_pair(config)
    shares = temperature_shares(list(num_train.values()), config.vocab_temperature)
    num_sentences = min(config.vocab_num_sentences, sum(num_train.values()))
    return {
        name: max(1, round(share * num_sentences)) if number else 0
        for (name, number), share in zip(num_train.items(), shares, strict=True)
    }


def train_models(
    read: Callable[[int], Iterable[str]], config: DataConfig, data_dir: pathlib.Path
) -> None:
    """Trains the models that the config asks for and writes them to a data directory.

    Text that gives fewer subwords than asked for gets a model of all that it gives.
    `read` returns the text of side 0, the sources, and of side 1, the English.
    """
    if config.tokenizer:
        return  # `copy_models` has copied it
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / TRAINING_MARK
    mark.write_text(str(os.getpid()))
    symbols = [*config.user_symbols.split(), *(PIECES if config.case_marks else ())]
    try:
        for name, sides in _SIDES[config.joint_vocabulary].items():
            text = functools.partial(_text, read, sides, config)
            key = "target_vocab_size" if name == "target" else "source_vocab_size"
            if config.extend_tokenizer:
                old = (data_dir / WORK / FOLDER / f"{name}.model").read_bytes()
                model = _train_extended(text, config, key, symbols, old)
            else:
                model = _train_largest(text, config, key, symbols)
            (folder / f"{name}.model").write_bytes(model)
    finally:
        mark.unlink()


def _train_extended(
    text: Callable[[], Iterator[str]],
    config: DataConfig,
    key: str,
    symbols: Sequence[str],
    old: bytes,
) -> bytes:
    """Returns an old model with as many subwords of the text as there is room for."""
    size = getattr(config, key)
    if piece_count(old) == size:
        return old
    symbols = list(dict.fromkeys([*user_pieces(old), *symbols]))
    return extend_model(old, _train_largest(text, config, key, symbols), size)


def _train_largest(
    text: Callable[[], Iterator[str]], config: DataConfig, key: str, symbols: Sequence[str]
) -> bytes:
    """Returns a model of the size that the key asks for, or of all that the text gives."""
    size, rare = getattr(config, key), {}
    while True:
        lines = text()
        try:
            return train_model(
                (line.translate(rare) for line in lines) if rare else lines,
                size,
                f"data.{key}",
                character_coverage=config.character_coverage,
                user_symbols=symbols,
            )
        except _SmallTextError as error:
            size = error.most
        except _ManyCharactersError as error:
            rare = _rare_characters(text(), len(rare) + error.excess + 1, error)
            print(
                f"data.{key} is {size}, too few for all characters: the {len(rare)} rarest "
                "are spelled as bytes",
                file=sys.stderr,
            )


def _text(
    read: Callable[[int], Iterable[str]], sides: Iterable[int], config: DataConfig
) -> Iterator[str]:
    lines, augmentation = itertools.chain.from_iterable(map(read, sides)), config.augmentation
    if config.case_marks:  # other text says how a word in capitals is best spelled
        augmentation = dataclasses.replace(augmentation, upper_case=0.0)
        lines = map(mark_case, lines)
    return with_capitals(lines, augmentation)


def with_capitals(lines: Iterable[str], config: AugmentationConfig) -> Iterator[str]:
    """Yields lines, a share of them in upper and in title case, as often as training will.

    Without such lines a model would spell words in capitals by single letters.
    """
    kinds = ((upper_case, config.upper_case), (title_case, config.title_case))
    for number, line in enumerate(lines):
        draw = number * _GOLDEN_RATIO % 1  # spread evenly
        for change, share in kinds:
            if 0 <= draw < share:
                line = change(line, "")
            draw -= share
        yield line


def read_samples(samples: Sequence[TextSample], side: int) -> Iterator[str]:
    """Yields the text of one side of samples, for `train_models`."""
    for sample in samples:
        start = 0
        for block in sample.blocks:
            kept = np.flatnonzero(read_drops(block) == 0)
            rows = kept[sample_rows(start, len(kept), sample.num_pairs, sample.num_wanted)]
            if len(rows):
                text = read_text(block)[side]
                for row in rows:
                    yield text[row]
            start += len(kept)


def sample_rows(start: int, number: int, num_pairs: int, num_wanted: int) -> np.ndarray:
    """Returns which of the pairs `start` to `start + number` of `num_pairs` a sample takes.

    Rows are relative to `start`, and repeated if more are wanted than there are.
    """
    repeats, rest = divmod(num_wanted, max(1, num_pairs))
    # Evenly spaced, so that the sample represents the whole corpus: the n-th row of the rest is
    # n * num_pairs // rest.
    first, end = (-(-row * rest // max(1, num_pairs)) for row in (start, start + number))
    spaced = np.arange(first, end, dtype=np.int64) * num_pairs // max(1, rest) - start
    return np.concatenate([spaced, np.tile(np.arange(number), repeats)])


def train_model(
    sentences: Iterable[str],
    vocab_size: int,
    key: str,
    character_coverage: float = 0.9995,
    user_symbols: Sequence[str] = (),
) -> bytes:
    """Returns a trained SentencePiece model of exactly `vocab_size` pieces.

    Characters that it hasn't seen become bytes, so none is unknown, and normalized text decodes
    to itself. User symbols are pieces that are never split. Raises ConfigError, naming `key`, if
    the text yields fewer pieces or its characters alone need more.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="unigram",
            normalization_rule_name="identity",
            byte_fallback=True,
            character_coverage=character_coverage,
            user_defined_symbols=list(user_symbols),
            max_sentence_length=1 << 16,
            num_threads=_TRAINING_THREADS,
            pad_id=pad_id,
            eos_id=eos_id,
            bos_id=bos_id,
            unk_id=unk_id,
            minloglevel=3,
        )
    except (RuntimeError, OSError, ValueError) as error:
        message = f"config.{key}: found {vocab_size}, {_what_fits(str(error))}"
        if (match := _MOST.search(str(error))) and int(match[1]) < vocab_size:
            raise _SmallTextError(message, int(match[1])) from None
        if match := _NEEDED.search(str(error)):
            raise _ManyCharactersError(message, int(match[2]) - int(match[1])) from None
        raise ConfigError(message) from None
    return model.getvalue()


def copy_models(tokenizer: Tokenizer, config: DataConfig, data_dir: pathlib.Path) -> None:
    """Copies the models of the other prepared data that the config names.

    Those to extend go to where `train_models` finds them. Raises ConfigError for models that are
    larger or of another kind.
    """
    key_of_path = "tokenizer" if config.tokenizer else "extend_tokenizer"
    source = open_path(getattr(config, key_of_path))
    is_joint = tokenizer.source is tokenizer.target
    source_size, target_size = tokenizer.vocab_sizes
    found = {
        "joint_vocabulary": is_joint,
        "source_vocab_size": source_size,
        "target_vocab_size": 0 if is_joint else target_size,
        "case_marks": tokenizer.has_case_marks,
    }
    for key, value in found.items():
        wanted = getattr(config, key)
        if wanted < value if key.endswith("size") else wanted != value:
            raise ConfigError(
                f"config.data.{key}: found {wanted}, the tokenizer of {source} has {value}, "
                f"accepted: {value}{' or more' * key.endswith('size')}, or no data.{key_of_path}"
            )
    folder = data_dir / FOLDER if config.tokenizer else data_dir / WORK / FOLDER
    folder.mkdir()
    for path in model_paths(source):
        shutil.copyfile(local_copy(path), folder / path.name)


def _rare_characters(
    text: Iterable[str], number: int, error: _ManyCharactersError
) -> dict[int, None]:
    """Returns the rarest characters, for `str.translate` to remove.

    Raises the error if they are too large a part of the text.
    """
    counts = Counter[str]()
    for line in text:
        counts.update(line)
    ranked = sorted(counts, key=lambda each: (counts[each], each))
    rare = [each for each in ranked if each != " "][:number]
    if sum(counts[each] for each in rare) > _MOST_RARE * counts.total():
        raise ConfigError(str(error)) from None
    return dict.fromkeys(map(ord, rare))


def _what_fits(message: str) -> str:
    if match := _MOST.search(message):
        return f"this text gives at most {match[1]} subwords, accepted: at most {match[1]}"
    if match := _NEEDED.search(message):
        return f"this text's characters alone need {match[2]}, accepted: more than {match[2]}"
    return f"SentencePiece can't train it: {message.strip()}"
