"""Subwords lose nothing: what is encoded decodes to itself, characters never seen included."""
# SPDX-License-Identifier: Apache-2.0

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data import tokenizer as subwords
from gshard_mt.data.cleaning.clean import normalize_all
from gshard_mt.data.tokenizer import bos_id, eos_id, load_tokenizer, pad_id
from gshard_mt.errors import DataError


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
