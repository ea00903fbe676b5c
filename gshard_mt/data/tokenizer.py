"""Subwords: SentencePiece models for the source languages and for English."""
# SPDX-License-Identifier: Apache-2.0

import functools
import hashlib
import io
import pathlib
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import sentencepiece

from gshard_mt.config.records import DataConfig
from gshard_mt.errors import ConfigError, DataError

pad_id, eos_id, bos_id, unk_id = 0, 1, 2, 3

_FOLDER = "tokenizer"
_TRAINING_THREADS = 8  # the same on every machine: the order of sums depends on it


@dataclass(frozen=True)
class Tokenizer:
    """The two models (the same one twice where they are joint) and a hash of their files."""

    source: sentencepiece.SentencePieceProcessor
    target: sentencepiece.SentencePieceProcessor
    hash: str

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """Subwords of source and target, special symbols included."""
        return self.source.get_piece_size(), self.target.get_piece_size()

    @functools.cached_property
    def starts_unknown_source(self) -> np.ndarray:
        """Tells for each id whether it begins a character that the source model doesn't know."""
        return _starts_unknown(self.source)

    @functools.cached_property
    def starts_unknown_target(self) -> np.ndarray:
        """The same for English."""
        return _starts_unknown(self.target)

    def encode_source(self, lines: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each line, no BOS or EOS among them."""
        return _encode(self.source, lines)

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each English line, no BOS or EOS among them."""
        return _encode(self.target, lines)

    def decode_sources(self, lines: Sequence[list[int]]) -> list[str]:
        """Returns the text of ids that are no special symbols."""
        return self.source.decode(list(lines)) if lines else []

    def decode_target(self, ids: Sequence[int]) -> str:
        """Returns the text of ids up to the first EOS; padding and BOS say nothing."""
        ids = [int(each) for each in ids]
        if eos_id in ids:
            ids = ids[: ids.index(eos_id)]
        return self.target.decode([each for each in ids if each not in (pad_id, bos_id)])


def train_model(
    sentences: Iterable[str],
    vocab_size: int,
    key: str,
    character_coverage: float = 0.9995,
    user_symbols: Sequence[str] = (),
) -> bytes:
    """Returns a trained SentencePiece model of exactly `vocab_size` pieces.

    No character is unknown to it: what it hasn't seen becomes bytes. Normalized text decodes to
    itself. User symbols are pieces that are never cut. Raises ConfigError, with `key`, where the
    text can't give so many pieces or its characters need more.
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
        raise ConfigError(f"{key} is {vocab_size}; {_what_fits(str(error))}") from None
    return model.getvalue()


def save_models(models: dict[str, bytes], folder: pathlib.Path) -> None:
    """Writes `source` and `target`, or `joint`, as NAME.model."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        (folder / f"{name}.model").write_bytes(model)


def copy_models(
    tokenizer: Tokenizer, config: DataConfig, source: pathlib.Path, target: pathlib.Path
) -> None:
    """Copies the models of prepared data into other data. Raises ConfigError for other sizes."""
    is_joint = tokenizer.source is tokenizer.target
    source_size, target_size = tokenizer.vocab_sizes
    found = {
        "joint_vocabulary": is_joint,
        "source_vocab_size": source_size,
        "target_vocab_size": config.target_vocab_size if is_joint else target_size,
    }
    for key, value in found.items():
        if getattr(config, key) != value:
            raise ConfigError(
                f"data.{key} is {getattr(config, key)}, the tokenizer of {source} has {value}; "
                f"accepted: {value}, or no data.tokenizer"
            )
    (target / _FOLDER).mkdir()
    for path in _model_paths(source):
        shutil.copyfile(path, target / _FOLDER / path.name)


def load_tokenizer(data_dir: pathlib.Path) -> Tokenizer:
    """Loads the models of a prepared data directory. Raises DataError where they can't be read."""
    digest = hashlib.sha256()
    models = []
    for path in _model_paths(data_dir):
        try:
            content = path.read_bytes()
            models.append(sentencepiece.SentencePieceProcessor(model_proto=content))
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path}: not a SentencePiece model: {error}") from None
        digest.update(hashlib.sha256(content).digest())
    return Tokenizer(models[0], models[-1], digest.hexdigest())


def _model_paths(data_dir: pathlib.Path) -> list[pathlib.Path]:
    folder = data_dir / _FOLDER
    joint = folder / "joint.model"
    return [joint] if joint.exists() else [folder / "source.model", folder / "target.model"]


def _encode(model: sentencepiece.SentencePieceProcessor, lines: Sequence[str]) -> list[list[int]]:
    return model.encode(list(lines), num_threads=1) if lines else []


def _starts_unknown(model: sentencepiece.SentencePieceProcessor) -> np.ndarray:
    starts = np.zeros(model.get_piece_size(), bool)
    for id in range(len(starts)):
        if model.is_byte(id):
            byte = int(model.id_to_piece(id)[1:-1], 16)
            starts[id] = byte & 0xC0 != 0x80  # no continuation byte of UTF-8
    return starts


def _what_fits(message: str) -> str:
    if match := re.search(r"value <= (\d+)", message):
        return f"this text gives at most {match[1]} subwords; accepted: at most {match[1]}"
    if match := re.search(r"smaller than required_chars\D*\d+\D+(\d+)", message):
        return f"this text's characters alone need {match[1]}; accepted: more than {match[1]}"
    return f"SentencePiece can't train it: {message.strip()}"
