"""Subwords lose nothing, and those of one vocabulary are spelled by those of another."""
# SPDX-License-Identifier: Apache-2.0

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.config.records import DataConfig
from gshard_mt.data import tokenizer as subwords
from gshard_mt.data.cleaning.clean import normalize_all
from gshard_mt.data.prepare.subwords import copy_models, train_model, train_models
from gshard_mt.data.tokenizer import (
    Tokenizer,
    bos_id,
    eos_id,
    load_tokenizer,
    pad_id,
    spell_pieces,
)
from gshard_mt.errors import ConfigError, DataError
from tests.making.made_up import english_sentences, translated


@pytest.fixture(scope="module")
def tokenizer(prepared):
    return load_tokenizer(prepared.directory)


@settings(deadline=None)
@given(st.text(min_size=1))
def test_clean_text_decodes_to_itself(tokenizer, text):
    (clean,) = normalize_all([text])
    (ids,) = tokenizer.encode_target([clean])
    assert tokenizer.decode_target(ids) == clean
    assert subwords.unk_id not in ids


def test_decoding_ends_at_eos_and_skips_padding(tokenizer):
    (ids,) = tokenizer.encode_target(["the cat sees"])
    decoded = tokenizer.decode_target([bos_id, *ids, eos_id, *ids, pad_id])
    assert decoded == "the cat sees"


def test_special_symbols_have_their_ids(tokenizer):
    for model in (tokenizer.source, tokenizer.target):
        found = model.pad_id(), model.eos_id(), model.bos_id(), model.unk_id()
        assert found == (0, 1, 2, 3)


def test_a_broken_model_is_refused(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "joint.model").write_bytes(b"no model")
    with pytest.raises(DataError, match="joint.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)


ENGLISH = english_sentences()
GERMAN = [translated(line, "de") for line in ENGLISH]


def train(lines: list[str], size: int, symbols: list[str]) -> Tokenizer:
    model = sentencepiece.SentencePieceProcessor(
        model_proto=train_model(lines, size, "size", user_symbols=symbols)
    )
    return Tokenizer(model, model, str(size))


def test_with_case_marks_capitals_have_the_subwords_of_small_letters(tmp_path):
    lines = english_sentences()
    config = DataConfig(source_vocab_size=330, joint_vocabulary=True, case_marks=True)
    train_models(lambda side: lines, config, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.has_case_marks
    for line in lines[::20]:
        ids, capitals = tokenizer.encode_target([line, line.upper()])
        assert len(capitals) == len(ids) + 1
        assert capitals[1:] == ids
        assert tokenizer.decode_targets([ids, capitals]) == [line, line.upper()]
        assert tokenizer.decode_target([*capitals, eos_id]) == line.upper()
    other = DataConfig(source_vocab_size=330, target_vocab_size=0, joint_vocabulary=True)
    other.tokenizer = str(tmp_path)
    german = ["Der Hund sieht den Ball", "den Ball sieht der Hund"] * 20
    train_models(lambda side: german, config, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    ids, capitals = tokenizer.encode_target(["der Hund sieht den Ball", "DER HUND SIEHT DEN BALL"])
    assert capitals[1:] == ids  # nouns as text has them
    assert tokenizer.decode_targets([capitals]) == ["DER HUND SIEHT DEN BALL"]
    with pytest.raises(ConfigError, match="case_marks: found False, the tokenizer of .* has True"):
        copy_models(tokenizer, other, tmp_path / "new")


def test_every_subword_is_the_same_one_or_those_that_spell_it():
    old = train(ENGLISH, 310, ["<x>"])
    new = train(ENGLISH + GERMAN + ["二 über\tx"] * 90, 340, ["<x>", "<newest>"])
    spelled = spell_pieces(new.source, old.source)
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
    assert spell_pieces(old.target, old.target) == [[id] for id in range(310)]
