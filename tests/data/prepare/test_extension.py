"""A model with more subwords: old ids mean what they did, and new text takes fewer tokens."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.data.prepare.extension import extend_model, piece_count, user_pieces
from gshard_mt.data.prepare.subwords import train_model
from gshard_mt.data.tokenizer import load_model, spell_pieces
from tests.making.phrases import NUM_SENTENCES, sentence

NUMBERS = range(0, NUM_SENTENCES, 11)
SYMBOL = "<tag>"


def text(language: str) -> list[str]:
    return [sentence(number, language) for number in NUMBERS]


@pytest.fixture(scope="module")
def old() -> bytes:
    return train_model([*text("de"), *text("fr")], 500, "size", user_symbols=[SYMBOL])


@pytest.fixture(scope="module", params=["es", "ru"])
def extended(old, request) -> tuple[bytes, list[str]]:
    """An old model with subwords of a language with its letters, or of one with other letters."""
    lines = text(request.param)
    new = train_model(lines, 400, "size", user_symbols=[SYMBOL, "<new>"])
    return extend_model(old, new, 560), lines


def pieces_of(content: bytes) -> list[tuple]:
    model = load_model(content)
    return [
        (model.id_to_piece(id), model.get_score(id))
        + (model.is_control(id), model.is_unknown(id), model.is_byte(id), model.is_unused(id))
        for id in range(model.get_piece_size())
    ]


def test_old_ids_mean_what_they_did(old, extended):
    content, _ = extended
    assert pieces_of(content)[: piece_count(old)] == pieces_of(old)
    assert piece_count(content) == load_model(content).get_piece_size() == 560
    model = load_model(content)
    assert (model.pad_id(), model.eos_id(), model.bos_id(), model.unk_id()) == (0, 1, 2, 3)
    assert user_pieces(old) == [SYMBOL] and user_pieces(content) == [SYMBOL, "<new>"]
    for piece in user_pieces(content):
        assert piece in model.encode(f"x{piece}y", out_type=str)
    # Normalization is part of the model, and is none: SentencePiece's own would change this.
    assert model.decode(model.encode("Der ﬁxe e\u0301")) == "Der ﬁxe e\u0301"


def test_new_text_takes_fewer_tokens_and_loses_nothing(old, extended):
    content, lines = extended
    before, after = (load_model(each).encode(lines) for each in (old, content))
    assert sum(map(len, after)) < 0.8 * sum(map(len, before))
    assert load_model(content).decode(after) == lines
    new_ids = {id for ids in after for id in ids if id >= piece_count(old)}
    assert len(new_ids) > 45  # of 60: scores let them be used


def test_old_text_changes_only_where_a_new_subword_stands_for_old_ones_in_a_row(old, extended):
    content, _ = extended
    spelled = spell_pieces(load_model(content), load_model(old))
    lines = [*text("de"), *text("fr")]
    before, after = (load_model(each).encode(lines) for each in (old, content))
    assert [[id for each in ids for id in spelled[each]] for ids in after] == before
    num_changed = sum(max(ids) >= piece_count(old) for ids in after)
    num_same = sum(first == second for first, second in zip(before, after, strict=True))
    assert num_same == len(lines) - num_changed  # with old subwords alone: the same ids
    assert num_changed < 0.5 * len(lines)


def test_a_model_without_room_for_more_stays_as_it_is(old):
    new = train_model(text("es"), 400, "size")
    assert pieces_of(extend_model(old, new, 500)) == pieces_of(old)
    assert extend_model(old, old, 900) == extend_model(old, new, 500)
