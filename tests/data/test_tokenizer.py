"""Subwords of one vocabulary are spelled by those of another, exactly."""
# SPDX-License-Identifier: Apache-2.0

import sentencepiece

from gshard_mt.data.prepare.subwords import train_model
from gshard_mt.data.tokenizer import Tokenizer, spell_pieces
from tests.making.made_up import english_sentences, translated

ENGLISH = english_sentences()
GERMAN = [translated(line, "de") for line in ENGLISH]


def tokenizer(lines: list[str], size: int, symbols: list[str]) -> Tokenizer:
    model = sentencepiece.SentencePieceProcessor(
        model_proto=train_model(lines, size, "size", user_symbols=symbols)
    )
    return Tokenizer(model, model, str(size))


def test_every_subword_is_the_same_one_or_those_that_spell_it():
    old = tokenizer(ENGLISH, 310, ["<x>"])
    new = tokenizer(ENGLISH + GERMAN + ["二 über\tx"] * 90, 340, ["<x>", "<newest>"])
    spelled = spell_pieces(new, old, "source")
    assert len(spelled) == 340
    num_same = 0
    for id, ids in enumerate(spelled):
        piece, pieces = new.source.id_to_piece(id), [old.source.id_to_piece(each) for each in ids]
        if len(ids) == 1 and pieces == [piece]:
            num_same += 1
            continue
        text = b"".join(
            bytes([int(each[1:-1], 16)]) if old.source.is_byte(number) else each.encode()
            for number, each in zip(ids, pieces, strict=True)
        )
        assert text.decode() == piece
    assert 270 < num_same < 335
    assert spell_pieces(old, old, "target") == [[id] for id in range(310)]
