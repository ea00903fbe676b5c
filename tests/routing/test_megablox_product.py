"""The kernels for TPUs, interpreted, against a loop."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax.numpy as jnp
import pytest

from gshard_mt.routing import megablox_product
from gshard_mt.routing.megablox_product import multiply
from tests.routing.expert_rows import (
    PROBLEMS,
    Problem,
    check,
    check_bfloat16,
    check_not_a_number,
)

interpreted = functools.partial(multiply, is_interpreted=True)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Many tiles in few elements."""
    for name, value in (("_ROWS", (16, 32)), ("_COLUMNS", 32), ("_SUMMED_BYTES", 64)):
        monkeypatch.setattr(megablox_product, name, value)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_expert_meets_its_own_rows_and_nothing_else(problem):
    check(interpreted, PROBLEMS[problem])


def test_bfloat16_is_summed_in_float32_and_rounded_once():
    check_bfloat16(interpreted, Problem(100, 70, 50, [60, 30]))


def test_rows_that_are_not_numbers_disturb_no_expert():
    check_not_a_number(interpreted)


@pytest.mark.parametrize(
    ("rows", "experts", "tile"), [(3, 2, 16), (65_536, 64, 512), (512, 64, 128), (16_384, 64, 512)]
)
def test_tiles_have_about_the_rows_of_an_expert(monkeypatch, rows, experts, tile):
    monkeypatch.undo()
    assert megablox_product._tile(jnp.zeros((rows, 20)), experts, 24) == (tile, 20, 24)
