"""Tokenizer: the SentencePiece models of the source languages and of English."""
# SPDX-License-Identifier: Apache-2.0

import functools
import hashlib
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sentencepiece

from gshard_mt.data import case_marks
from gshard_mt.errors import DataError
from gshard_mt.storage.cache import local_copy

pad_id, eos_id, bos_id, unk_id = 0, 1, 2, 3

FOLDER = "tokenizer"
_NO_PIECE = "\ue000"  # private use: in no text


@dataclass(frozen=True)
class Tokenizer:
    """The two models (the same one twice if they are joint) and a hash of their files."""

    source: sentencepiece.SentencePieceProcessor
    target: sentencepiece.SentencePieceProcessor
    hash: str

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """Subwords of source and target, special symbols included."""
        return self.source.get_piece_size(), self.target.get_piece_size()

    @property
    def pieces(self) -> tuple[list[str], list[str]]:
        """All subwords of source and target, in the order of their ids."""
        source, target = (
            [model.id_to_piece(id) for id in range(model.get_piece_size())]
            for model in (self.source, self.target)
        )
        return source, target

    @property
    def has_case_marks(self) -> bool:
        """Whether words in capitals are encoded as in other text, between marks."""
        return _has_case_marks(self.target)

    @functools.cached_property
    def starts_unknown_source(self) -> np.ndarray:
        """Whether each id begins a character unknown to the source model: bool per id."""
        return _starts_unknown(self.source)

    @functools.cached_property
    def starts_unknown_target(self) -> np.ndarray:
        """The same for English."""
        return _starts_unknown(self.target)

    def encode_source(self, lines: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each line, without BOS or EOS."""
        return _encode(self.source, lines)

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each English line, without BOS or EOS."""
        return _encode(self.target, lines)

    def decode_sources(self, lines: Sequence[list[int]]) -> list[str]:
        """Returns the text of lines of ids without special symbols."""
        return _decode(self.source, lines)

    def decode_targets(self, lines: Sequence[list[int]]) -> list[str]:
        """Returns the English text of lines of ids without special symbols."""
        return _decode(self.target, lines)

    def decode_target(self, ids: Sequence[int]) -> str:
        """Returns the text of ids up to the first EOS; padding and BOS are skipped."""
        ids = [int(each) for each in ids]
        if eos_id in ids:
            ids = ids[: ids.index(eos_id)]
        return _decode(self.target, [[each for each in ids if each not in (pad_id, bos_id)]])[0]


def load_tokenizer(data_dir: pathlib.Path) -> Tokenizer:
    """Loads the models of a prepared data directory. Raises DataError if they can't be read."""
    digest = hashlib.sha256()
    models = []
    for path in model_paths(data_dir):
        try:
            content = local_copy(path).read_bytes()
            models.append(load_model(content))
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path}: not a SentencePiece model: {error}") from None
        digest.update(hashlib.sha256(content).digest())
    return Tokenizer(models[0], models[-1], digest.hexdigest())


def load_model(content: bytes) -> sentencepiece.SentencePieceProcessor:
    """Loads a SentencePiece model. Raises RuntimeError if it is none."""
    return sentencepiece.SentencePieceProcessor(model_proto=content)


def spell_pieces(
    new: sentencepiece.SentencePieceProcessor, old: sentencepiece.SentencePieceProcessor
) -> list[list[int]]:
    """Returns for each subword of a model the old one that is the same, or those that spell it."""
    # A text gets a space in front, which pieces inside a word don't have; after a character that
    # is in no piece they are spelled as they are.
    before = old.encode(_NO_PIECE)
    spelled = []
    for id in range(new.get_piece_size()):
        piece = new.id_to_piece(id)
        same = old.piece_to_id(piece)
        is_known = same != old.unk_id() or id == new.unk_id()
        text = _NO_PIECE + piece.replace("▁", " ")
        spelled.append([same] if is_known else old.encode(text)[len(before) :])
    return spelled


def model_paths(data_dir: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of the source and target models, or of the joint one."""
    folder = data_dir / FOLDER
    joint = folder / "joint.model"
    return [joint] if joint.exists() else [folder / "source.model", folder / "target.model"]


def _encode(model: sentencepiece.SentencePieceProcessor, lines: Sequence[str]) -> list[list[int]]:
    if _has_case_marks(model):
        spell = functools.partial(_spell_capitals, model)
        lines = [case_marks.mark_case(line, spell) for line in lines]
    return model.encode(list(lines), num_threads=1) if lines else []


def _decode(model: sentencepiece.SentencePieceProcessor, lines: Sequence[list[int]]) -> list[str]:
    texts = model.decode(list(lines)) if lines else []
    return list(map(case_marks.unmark_case, texts)) if _has_case_marks(model) else texts


def _spell_capitals(model: sentencepiece.SentencePieceProcessor, word: str) -> str:
    """Returns the spelling of a word in capitals with the fewest subwords, or the likelier one.

    One that needs bytes comes last.
    """

    def rank(spelling: str) -> tuple[bool, int, float]:
        ids = model.encode(spelling)
        return any(map(model.is_byte, ids)), len(ids), -sum(map(model.get_score, ids))

    return min(case_marks.spellings(word), key=rank)


def _has_case_marks(model: sentencepiece.SentencePieceProcessor) -> bool:
    return all(model.piece_to_id(piece) != unk_id for piece in case_marks.PIECES)


def _starts_unknown(model: sentencepiece.SentencePieceProcessor) -> np.ndarray:
    starts = np.zeros(model.get_piece_size(), bool)
    for id in range(len(starts)):
        if model.is_byte(id):
            byte = int(model.id_to_piece(id)[1:-1], 16)
            starts[id] = byte & 0xC0 != 0x80  # not a continuation byte of UTF-8
    return starts
