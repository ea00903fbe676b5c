"""Pictures have room for a hundred languages, and draw what is odd."""
# SPDX-License-Identifier: Apache-2.0

import re

import numpy as np
import pytest

from gshard_mt.report import pictures
from gshard_mt.report.pictures import Picture, Scale

MANY = [f"Language {number}" for number in range(137)]
FEW = MANY[:3]


def texts(picture: Picture) -> list[str]:
    """Every text in a picture; letters are drawn as outlines, with the text in a comment."""
    return re.findall(r"<!-- (.*?) -->", picture.svg.decode())


@pytest.mark.parametrize("labels", [MANY, FEW, FEW[:1]], ids=["many", "few", "one"])
def test_every_language_has_its_row(labels):
    values = [1.0 + number for number in range(len(labels))]
    drawn = [
        pictures.differences(labels, values, [True] * len(labels)),
        pictures.dots(labels, {"": {"nll": values}}, Scale("nats")),
        pictures.heat_map(labels, np.full((len(labels), 8), 1 / 8), 0.2),
    ]
    for picture in drawn:
        assert set(labels) <= set(texts(picture))
        assert picture.height > 12 * len(labels)
        assert picture.width < 1080  # of the page
        assert picture.png.startswith(b"\x89PNG")


def test_dots_close_together_are_named_as_far_as_there_is_room():
    codes = [f"l{number}" for number in range(137)]
    rows = [(code, 1000 + number, "mid") for number, code in enumerate(codes)]
    crowded = texts(pictures.by_size(rows, [(20.0, 19.0, 21.0)] * 137))
    assert 0 < len({*crowded} & {*codes}) < 60
    apart = [(code, 10 * 4**number, "low") for number, code in enumerate(codes[:9])]
    assert {*codes[:9]} <= {*texts(pictures.by_size(apart, [(20.0, 19.0, 21.0)] * 9))}


def test_a_language_without_training_pairs_is_at_zero():
    found = pictures.by_size(
        [("de", 10000, "high"), ("fr", 500, "mid"), ("hr", 0, "low")], [(20.0, 19.0, 21.0)] * 3
    )
    assert {"de", "fr", "hr", "0", "10,000"} <= {*texts(found)}


def test_experts_are_numbered_from_0_and_thinned():
    numbers = texts(pictures.heat_map(FEW, np.full((3, 8), 1 / 8), 0.2))
    assert [text for text in numbers if text.isdigit()] == [str(number) for number in range(8)]
    numbers = texts(pictures.heat_map(FEW, np.full((3, 2048), 1 / 2048), 0.001))
    assert 4 < sum(text.isdigit() for text in numbers) < 20


def test_what_was_not_measured_is_left_out():
    shares_XE = np.array([[0.5, 0.5], [np.nan, np.nan], [1.0, 0.0]])
    assert (
        pictures.heat_map(FEW, shares_XE, 1.0).svg
        != pictures.heat_map(FEW, np.nan_to_num(shares_XE), 1.0).svg
    )
    nothing = {"encoder": {"tokens": [np.nan] * 3, "choices": [np.nan] * 3}}
    assert "tokens" in texts(pictures.dots(FEW, nothing, Scale("share", is_share=True)))


def test_a_loss_that_is_no_number_and_a_single_line_are_drawn():
    assert "loss" in texts(pictures.curves({"loss": ([10, 20], [5.0, np.nan])}, {}, 20, "nats"))
    assert "dev" in texts(pictures.curves({}, {"dev": ([10], [5.0])}, 10, "BLEU"))
