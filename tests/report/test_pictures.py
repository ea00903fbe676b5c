"""Pictures have room for a hundred languages, and draw zeros, NaN and single values."""
# SPDX-License-Identifier: Apache-2.0

import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from gshard_mt.report import pictures
from gshard_mt.report.page import Picture

MANY = [f"Language {number}" for number in range(137)]
FEW = MANY[:3]


def texts(picture: Picture) -> list[str]:
    """Returns every text in a picture: SVG has letters as outlines, with the text in a comment."""
    return re.findall(r"<!-- (.*?) -->", picture.svg.decode())


@pytest.mark.parametrize("labels", [MANY, FEW, FEW[:1]], ids=["many", "few", "one"])
def test_every_language_has_its_row(labels):
    values = [1.0 + number for number in range(len(labels))]
    drawn = [
        pictures.differences(labels, values, [True] * len(labels)),
        pictures.dots(labels, {"": {"nll": values}}, "nats"),
        pictures.heat_map(labels, np.full((len(labels), 8), 1 / 8), 0.2),
    ]
    for picture in drawn:
        assert set(labels) <= set(texts(picture))
        assert picture.height > 12 * len(labels)
        assert picture.width < 1080  # the width of the page
        assert picture.png.startswith(b"\x89PNG")


def test_crowded_dots_are_named_only_where_there_is_room():
    codes = [f"l{number}" for number in range(137)]
    rows = [(code, 1000 + number, "mid") for number, code in enumerate(codes)]
    crowded = texts(pictures.by_size(rows, [(20.0, 19.0, 21.0)] * 137))
    assert 0 < len({*crowded} & {*codes}) < 60
    apart = [(code, 10 * 4**number, "low") for number, code in enumerate(codes[:9])]
    assert {*codes[:9]} <= {*texts(pictures.by_size(apart, [(20.0, 19.0, 21.0)] * 9))}


def test_a_language_without_training_pairs_is_drawn_at_zero():
    found = pictures.by_size(
        [("de", 10000, "high"), ("fr", 500, "mid"), ("hr", 0, "low")], [(20.0, 19.0, 21.0)] * 3
    )
    assert {"de", "fr", "hr", "0", "10,000"} <= {*texts(found)}


def test_experts_are_numbered_from_0_and_thinned():
    numbers = texts(pictures.heat_map(FEW, np.full((3, 8), 1 / 8), 0.2))
    assert [text for text in numbers if text.isdigit()] == [str(number) for number in range(8)]
    numbers = texts(pictures.heat_map(FEW, np.full((3, 2048), 1 / 2048), 0.001))
    assert 4 < sum(text.isdigit() for text in numbers) < 20


def test_nan_is_a_grey_row_of_a_heat_map_and_no_dot():
    def share_of_grey(shares_XE: np.ndarray) -> float:
        """Of all pixels of the cells: those that are not white outside, by their color."""
        pixels = imread(io.BytesIO(pictures.heat_map(FEW, shares_XE, 1.0).png))[..., :3]
        return (np.abs(pixels - 0xD0 / 255) < 0.001).all(axis=-1).mean()

    shares_XE = np.array([[0.5, 0.5], [np.nan, np.nan], [1.0, 0.0]])
    assert share_of_grey(shares_XE) > 0.05
    assert share_of_grey(np.nan_to_num(shares_XE)) < 0.005
    nothing = {"encoder": {"tokens": [np.nan] * 3, "choices": [np.nan] * 3}}
    assert "tokens" in texts(pictures.dots(FEW, nothing, "share", is_share=True))


def test_curves_with_nan_or_a_single_point_are_drawn():
    assert "loss" in texts(pictures.curves({"loss": ([10, 20], [5.0, np.nan])}, {}, 20, "nats"))
    assert "dev" in texts(pictures.curves({}, {"dev": ([10], [5.0])}, 10, "BLEU"))
