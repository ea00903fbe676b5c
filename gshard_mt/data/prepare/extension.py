"""Extension: a SentencePiece model with more subwords, whose old ones keep their ids and scores.

An old encoding changes only where a new subword stands for several old ones in a row.
"""
# SPDX-License-Identifier: Apache-2.0

import functools
import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from gshard_mt.data.tokenizer import load_model, spell_pieces

_NORMAL, _UNKNOWN, _USER_DEFINED, _BYTE = 1, 2, 4, 6  # SentencePiece.Type
# Nats per token saved: little against the differences between encodings, much against the
# rounding errors of the scores of a line.
_GAIN = 0.1

_FIELDS = """
name: "gshard_mt/sentencepiece_model.proto" package: "gshard_mt" syntax: "proto2"
message_type {
  name: "SentencePiece"
  field { name: "piece" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "score" number: 2 type: TYPE_FLOAT label: LABEL_OPTIONAL }
  field { name: "type" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL default_value: "1" }
}
message_type {
  name: "TrainerSpec"
  field { name: "vocab_size" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL }
}
message_type {
  name: "ModelProto"
  field {
    name: "pieces" number: 1 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: ".gshard_mt.SentencePiece"
  }
  field {
    name: "trainer_spec" number: 2 type: TYPE_MESSAGE label: LABEL_OPTIONAL
    type_name: ".gshard_mt.TrainerSpec"
  }
}
"""


class _Piece(NamedTuple):
    """A subword for the old model."""

    text: str
    score: float
    kind: int
    use: float  # about how many tokens it saves in a token of the new text


def extend_model(old: bytes, new: bytes, size: int) -> bytes:
    """Returns an old model with those subwords of a new one that it lacks, `size` at most in all.

    Those that save most tokens come first. Old subwords, their ids and scores, the special symbols
    and the normalization stay as they are.

    An encoding is the most probable one. The score of a new subword is that of the old ones that
    spell it, and 0.1 more for every token that it saves. So it replaces them where the old model
    writes them in a row, and hardly anywhere else: other text keeps its ids. Old subwords give no
    score to text that they spell in bytes. There a new subword has its score in the new model,
    moved by the median difference between the scores of subwords that both models have.
    """
    model = _message().FromString(old)
    found = sorted(_missing(model, old, new), key=lambda piece: (-piece.use, piece.text))
    for piece in found[: size - len(model.pieces)]:
        model.pieces.add(piece=piece.text, score=piece.score, type=piece.kind)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model.SerializeToString(deterministic=True)


def piece_count(model: bytes) -> int:
    """Returns the number of subwords of a model, special symbols included."""
    return len(_message().FromString(model).pieces)


def user_pieces(model: bytes) -> list[str]:
    """Returns the subwords of a model that are never split."""
    return [
        piece.piece for piece in _message().FromString(model).pieces if piece.type == _USER_DEFINED
    ]


def _missing(model: Any, old: bytes, new: bytes) -> Iterator[_Piece]:
    """Yields the subwords of the new model that the old one lacks, with scores for the old one."""
    pieces = _message().FromString(new).pieces
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL}
    shift = _shift(scores, {piece.piece: piece.score for piece in pieces if piece.type == _NORMAL})
    texts = {piece.piece for piece in model.pieces}
    spelled = spell_pieces(load_model(new), load_model(old))
    for piece, ids in zip(pieces, spelled, strict=True):
        if piece.piece in texts:
            continue
        if piece.type == _USER_DEFINED:
            yield _Piece(piece.piece, piece.score, _USER_DEFINED, math.inf)
        elif piece.type == _NORMAL:
            parts = [model.pieces[id] for id in ids]
            num_saved = len(parts) - 1
            score = sum(part.score for part in parts) + _GAIN * num_saved
            if any(part.type in (_BYTE, _UNKNOWN) for part in parts):
                score = piece.score + shift
            yield _Piece(piece.piece, score, _NORMAL, math.exp(piece.score) * num_saved)


def _shift(old: Mapping[str, float], new: Mapping[str, float]) -> float:
    """Returns by how much the scores of an old model are larger, 0 if it shares no subword."""
    differences = [old[text] - score for text, score in new.items() if text in old]
    return statistics.median(differences) if differences else 0.0


@functools.cache
def _message() -> Any:
    """Returns the class of SentencePiece's ModelProto, with the few fields that are used here.

    Protobuf keeps the others as they are. SentencePiece's own class needs a protobuf that TFDS
    does not allow.
    """
    file = text_format.Parse(_FIELDS, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gshard_mt.ModelProto"))
