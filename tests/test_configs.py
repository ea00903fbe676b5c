"""Every experiment in configs/ is accepted; arithmetic that a docstring promises holds."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import runpy

import pytest

from gshard_mt.config.checks import check
from gshard_mt.config.load import load_config
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
LADDER = runpy.run_path(str(FOLDER / "gshard.py"))["LADDER"]


def load(name: str) -> Config:
    file, colon, model = name.partition(":")
    return load_config(f"{FOLDER / file}.py{colon}{model}")


@pytest.mark.parametrize(
    "name",
    [
        *sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "gshard"),
        *(f"gshard:{model}" for model in LADDER),
    ],
)
def test_every_config_is_accepted(name):
    config = load(name)
    check(config)
    text = (FOLDER / f"{name.partition(':')[0]}.py").read_text(encoding="utf-8")
    assert bool(config.data.recipe) != ("--config.data.recipe=" in text)


@pytest.mark.parametrize("argument", ["", ":2048e"])
def test_the_papers_ladder_names_its_models(argument):
    with pytest.raises(ConfigError, match=r"gshard.py:NAME: found .*, accepted: 128e_12l, 128e_36"):
        load(f"gshard{argument}")


def test_the_config_for_own_text_takes_the_devices_there_are():
    assert load("small").mesh.num_cpu_devices == 0
    assert load("small").model == load("smoke").model


def test_noise_is_cleaned_by_all_filters_or_none():
    on, off = load("noise").data, load("noise:off").data
    assert on.cleaning == Config().data.cleaning
    switches = dataclasses.asdict(off.cleaning)
    assert {name for name, value in switches.items() if value} == {"duplicates", "near_duplicates"}
    with pytest.raises(ConfigError, match="FILTERS: found 'of', accepted: on, off"):
        load("noise:of")


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
