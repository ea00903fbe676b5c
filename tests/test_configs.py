"""Every experiment in configs/ can work; arithmetic that a docstring promises is there."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import runpy

import pytest

from gshard_mt.config import records as configs
from gshard_mt.config.records import Config
from gshard_mt.model.moe_checks import check_moe

FOLDER = pathlib.Path(__file__).parents[1] / "configs"


def load(name: str) -> Config:
    return runpy.run_path(str(FOLDER / f"{name}.py"))["get_config"]()


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_every_config_is_accepted(name):
    config = load(name)
    configs.check(config)
    if config.model.moe.num_experts:
        check_moe(config.model)
    assert config.train.save_every % config.train.log_every == 0


@pytest.mark.parametrize(
    "dense, sparse",
    [
        ("tatoeba_dense", "tatoeba_moe_8e"),
        ("tatoeba_dense", "tatoeba_moe_64e"),
        ("multi30k_dense", "multi30k_moe"),
    ],
)
def test_a_token_meets_as_many_hidden_units_as_in_the_dense_model(dense, sparse):
    one, other = load(dense).model, load(sparse).model
    hidden = other.num_layers // 2 * (1 + 2) * other.ffn_dim
    assert one.num_layers * one.ffn_dim == pytest.approx(hidden, rel=0.005)
