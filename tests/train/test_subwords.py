"""Other subwords are mapped, and told, where enough of the text is in known ones; else refused."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest

from gshard_mt.data.prepare.extension import extend_model
from gshard_mt.data.prepare.subwords import train_model
from gshard_mt.data.tokenizer import Tokenizer, load_model
from gshard_mt.errors import ConfigError
from gshard_mt.train.subwords import map_subwords
from tests.making.phrases import NUM_SENTENCES, sentence


def text(language: str, first: int = 0) -> list[str]:
    return [sentence(number, language) for number in range(first, NUM_SENTENCES, 23)]


MODELS = {
    "de": (text("de"), 380),
    "es": (text("es"), 360),
    "ru": (text("ru"), 360),
    "en": (text("en"), 360),
    # English of another kind: a third of its words are others, and it has fewer subwords.
    "other en": (text("en", 5)[:60] + ["the Weather was lovely, or so they said"] * 30, 340),
}


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    found = {name: train_model(lines, size, "size") for name, (lines, size) in MODELS.items()}
    found["de+ru"] = extend_model(found["de"], found["ru"], 800)
    found["en+ru"] = extend_model(found["en"], found["ru"], 800)
    return found


def tokenizer(models: dict[str, bytes], source: str, target: str) -> Tokenizer:
    both = load_model(models[source]), load_model(models[target])
    return Tokenizer(*both, f"{source} {target}")


def map_from_german(models: dict[str, bytes], source: str, target: str):
    old, new = tokenizer(models, "de", "en"), tokenizer(models, source, target)
    return map_subwords(new, old, "/runs/old@7", "/runs/old")


def test_the_same_subwords_need_no_mapping(models):
    assert map_from_german(models, "de", "en") == ({}, [])


ACCEPTED = {
    "another source in the same script": ("es", "en"),
    "English of another kind": ("de", "other en"),
    "an extension, though most new subwords are in another script": ("de+ru", "en+ru"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_has_enough_in_common_is_mapped_and_counted(models, case):
    maps, lines = map_from_german(models, *ACCEPTED[case])
    old, new = tokenizer(models, "de", "en"), tokenizer(models, *ACCEPTED[case])
    assert len(lines) == 2
    for side, line in zip(("source", "target"), lines, strict=True):
        pieces, known = getattr(new, side), getattr(old, side)
        ids, weights = maps[side]
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
        is_same = [
            known.id_to_piece(int(first)) == pieces.id_to_piece(id) and weight == 1
            for id, (first, weight) in enumerate(zip(ids[:, 0], weights[:, 0], strict=True))
        ]
        has_byte = [
            not same and any(known.is_byte(int(each)) for each in row[weight > 0])
            for same, row, weight in zip(is_same, ids, weights, strict=True)
        ]
        num_same, num_bytes = sum(is_same), sum(has_byte)
        num_means = len(is_same) - num_same - num_bytes
        assert line.startswith(f"{side} subwords: {num_same} of {len(is_same)} have a vector (")
        assert f"% of the text); {num_means} begin as the mean of" in line
        assert line.endswith(f"them, {num_bytes} as the mean of bytes")


REFUSED = {
    "another target language": (("de", "ru"), "target"),
    "another script": (("ru", "en"), "source"),
    "both": (("ru", "ru"), "source"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_too_little_in_common_is_refused_in_one_line_with_the_remedy(models, case):
    names, side = REFUSED[case]
    message = (
        rf"--init_from: /runs/old@7 has other {side} subwords: .* \d+% .*accepted: 50% or more"
    )
    with pytest.raises(ConfigError, match=message) as raised:
        map_from_german(models, *names)
    assert str(raised.value).endswith("data.extend_tokenizer=/runs/old (or data.tokenizer)")
    assert "\n" not in str(raised.value)
