"""Which experts stay: the busiest of the chosen languages, layer by layer; what can't be pruned."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib

import numpy as np
import pytest

from gshard_mt.config.records import Config
from gshard_mt.errors import CheckpointError, ConfigError
from gshard_mt.run.directory import Run
from gshard_mt.run.journal import History
from gshard_mt.run.pruning import LOSS, load_of_experts, plan_pruning, pruned

PAIRS = ["de-en", "fr-en", "hu-en"]


def run_with(num_experts: int = 4, **moe) -> Run:
    config = Config()
    config.model.moe = dataclasses.replace(config.model.moe, num_experts=num_experts, **moe)
    return Run(config, pathlib.Path("data"), "x", {"fr-en": 3, "de-en": 9, "hu-en": 1})


def line(step: int, stack: str, layer: int, load_XE: list) -> dict:
    return {"step": step, "stack": stack, "layer": layer, "pairs": PAIRS, "load": load_XE}


def history(*lines: dict) -> History:
    return History(routing=lines)


DE, FR, HU = [90, 6, 3, 1], [0, 1, 8, 1], [0, 0, 0, 7]
ONE_LAYER = history(line(5, "encoder", 0, [DE, FR, HU]))


@pytest.mark.parametrize(
    ("languages", "share", "kept"),
    [
        (["de"], 0.5, (0, 1)),
        (["fr"], 0.5, (1, 2)),  # 1 and 3 have the same load: the first one
        (["hu"], 0.5, (0, 3)),
        (["hu", "deu"], 0.5, (0, 3)),
        ([], 0.75, (0, 2, 3)),  # a language counts the same, whatever its text
        ([], 1.0, (0, 1, 2, 3)),
    ],
)
def test_the_busiest_experts_of_the_languages_stay(languages, share, kept):
    plan = plan_pruning(run_with(), languages, share, load_of_experts(ONE_LAYER, 5))
    assert plan.kept == {"encoder.layers.0": kept}
    assert (plan.num_experts, plan.num_kept) == (4, len(kept))


def test_any_worth_chooses():
    worth = {"decoder.layers.2": np.array([0.1, 2.0, 0.3, 0.3]), "encoder.layers.0": np.arange(4)}
    plan = plan_pruning(run_with(), [], 0.5, lambda pairs: worth, LOSS)
    assert plan.kept == {"decoder.layers.2": (1, 2), "encoder.layers.0": (2, 3)}
    assert plan.chosen_by == LOSS


def test_every_layer_has_its_own_and_the_step_counts():
    lines = [
        line(5, stack, layer, [DE, FR, HU]) for stack in ("encoder", "decoder") for layer in (0, 2)
    ]
    later = [{**each, "step": 10, "load": np.flip(each["load"], 1).tolist()} for each in lines]
    early, late = (
        plan_pruning(run_with(), ["de"], 0.5, load_of_experts(history(*lines, *later), step)).kept
        for step in (9, 11)
    )
    names = ["encoder.layers.0", "encoder.layers.2", "decoder.layers.0", "decoder.layers.2"]
    assert early == dict.fromkeys(names, (0, 1)) and late == dict.fromkeys(names, (2, 3))


def test_a_language_without_choices_counts_nothing():
    nothing = history(line(5, "encoder", 0, [DE, [0, 0, 0, 0], HU]))
    assert plan_pruning(run_with(), ["fr", "de"], 0.5, load_of_experts(nothing, 5)).kept == {
        "encoder.layers.0": (0, 1)
    }


def test_the_run_that_is_left_has_its_languages_and_experts():
    run = run_with()
    left = pruned(run, plan_pruning(run, ["hu", "fr"], 0.5, load_of_experts(ONE_LAYER, 5)))
    assert left.train_pairs == {"fr-en": 3, "hu-en": 1}
    assert (left.config.model.moe.num_experts, run.config.model.moe.num_experts) == (2, 4)


@pytest.mark.parametrize(
    ("run", "languages", "share", "expected"),
    [
        (run_with(0), [], 0.5, "a dense model"),
        (run_with(), [], 0.0, "0.5 (the 2 that a layer needs) to 1"),
        (run_with(), [], 0.3, "found 0.3 of 4 experts"),
        (run_with(), [], 1.5, "found 1.5"),
        (run_with(8, gate="top_k", num_choices=3), [], 0.25, "the 3 that a layer needs"),
        (run_with(gate="hash"), [], 0.5, "the gate hash, accepted: top2"),
        (run_with(decoder_gate="hash"), [], 0.5, "the gate hash"),
        (run_with(gate="hierarchical", num_expert_groups=2), [], 0.5, "the gate hierarchical"),
        (run_with(), ["it"], 0.5, "not trained on it"),
    ],
)
def test_what_cannot_be_pruned_is_refused(run, languages, share, expected):
    with pytest.raises(ConfigError) as error:
        plan_pruning(run, languages, share, load_of_experts(ONE_LAYER, 5))
    assert expected in str(error.value)


def test_a_run_without_loads_is_refused():
    for lines in (History(), ONE_LAYER):
        with pytest.raises(CheckpointError, match="no loads up to step 4"):
            plan_pruning(run_with(), [], 0.5, load_of_experts(lines, 4))
