"""Parameters of one model begin another: with the same outputs where that is promised."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import jax
import numpy as np
import pytest

from gshard_mt.config.records import InitConfig
from gshard_mt.model.mapping import PieceMap, map_params
from gshard_mt.model.moe import evaluation_groups
from gshard_mt.train.step import sides
from tests.model import tiny

BATCH = tiny.pack([[tiny.sentence(0, 5, 7), tiny.sentence(1, 8, 4)], [tiny.sentence(2, 9, 11)]], 24)
DENSE_4 = dataclasses.replace(tiny.DENSE, num_layers=4)
SHARED = tiny.with_moe(tiny.MOE, shared_ffn_dim=8)
EIGHT = tiny.with_moe(tiny.MOE, num_experts=8, capacity_factor=8.0, eval_capacity_factor=8.0)


def logits(config, params) -> np.ndarray:
    """The logits of all real tokens, in evaluation mode, where nothing is dropped."""
    blueprint = tiny.make(config).blueprint

    def run(params, batch):
        model, groups = blueprint.build(params), evaluation_groups(config)
        source, target = sides(batch)
        memory_BLM, _ = model.encode(source, groups)
        return model.logits(model.decode(memory_BLM, source.segment_BL, target, groups)[0])

    return np.asarray(jax.jit(run)(params, BATCH))[BATCH.target_segment_BT != 0]


def begin(old, new, pieces=None, **init):
    """Parameters of the model `new` that begin as those of the model `old`."""

    def run(old_params, fresh):
        key = jax.random.key(3)
        return map_params(old_params, fresh, pieces or {}, InitConfig(**init), key)

    return jax.jit(run)(tiny.make(old, seed=1).params, tiny.make(new, seed=2).params)


def shapes(params):
    return jax.tree.map(lambda array: array.shape, params)


@pytest.fixture(scope="module")
def expected() -> dict:
    return {
        name: logits(config, tiny.make(config, seed=1).params)
        for name, config in (("dense", DENSE_4), ("dense_2", tiny.DENSE), ("experts", tiny.MOE))
    }


EXACT = {
    "the same": ("experts", tiny.MOE, tiny.MOE),
    "experts for dense layers": ("dense", DENSE_4, tiny.MOE),
    "a shared expert besides": ("dense", DENSE_4, SHARED),
    "deeper": ("dense", DENSE_4, dataclasses.replace(DENSE_4, num_layers=10)),
    "deeper with experts": ("experts", tiny.MOE, dataclasses.replace(tiny.MOE, num_layers=8)),
    "experts and twice as deep": ("dense_2", tiny.DENSE, tiny.MOE),
    "experts and deeper": ("dense", DENSE_4, dataclasses.replace(tiny.MOE, num_layers=12)),
}


@pytest.mark.parametrize("case", EXACT)
def test_a_model_that_is_said_to_be_equal_has_the_same_logits(expected, case):
    name, old, new = EXACT[case]
    params = begin(old, new)
    assert shapes(params) == shapes(tiny.make(new).params)
    np.testing.assert_allclose(logits(new, params), expected[name], atol=1e-5, rtol=1e-5)


def test_experts_begin_alike_and_differ_by_noise_or_by_hidden_units_that_begin_again():
    dense = tiny.make(DENSE_4, seed=1).params["encoder"]["layers"]
    (dense_layer,) = dense.values()
    wi_MH = np.asarray(dense_layer["feed_forward"]["wi_MH"])[0]

    def first_layer(**init):
        layers = begin(DENSE_4, tiny.MOE, **init)["encoder"]["layers"]
        experts = layers[min(layers, key=int)]["feed_forward"]
        return np.asarray(experts["wi_EMH"])[0], np.asarray(experts["wo_EHM"])[0]

    wi_EMH, _ = first_layer()
    assert (wi_EMH == wi_MH).all()
    noisy_EMH, _ = first_layer(expert_noise=0.1)
    deviation = np.std(noisy_EMH - wi_MH) / np.std(wi_MH)
    assert 0.08 < deviation < 0.12 and len(np.unique(noisy_EMH[:, 0, 0])) == 4
    reset_EMH, reset_EHM = first_layer(reset_share=0.5)
    is_same_EH = (reset_EMH == wi_MH).all(axis=1)
    wo_HM = np.asarray(dense_layer["feed_forward"]["wo_HM"])[0]
    assert 0.3 < is_same_EH.mean() < 0.7 and len(np.unique(is_same_EH, axis=0)) == 4
    assert (((reset_EHM == wo_HM).all(axis=2)) == is_same_EH).all()
    assert np.std(reset_EMH) == pytest.approx(np.std(wi_MH), rel=0.1)


def test_copies_of_an_expert_stand_together_with_the_same_columns_of_the_gate():
    old = tiny.make(tiny.MOE, seed=1).params
    new = begin(tiny.MOE, EIGHT, expert_noise=0.1)
    assert shapes(new) == shapes(tiny.make(EIGHT).params)
    for stack in ("encoder", "decoder"):
        first = min(old[stack]["layers"], key=int)
        before, after = (tree[stack]["layers"][first]["feed_forward"] for tree in (old, new))
        np.testing.assert_array_equal(after["wg_ME"], np.repeat(before["wg_ME"], 2, axis=-1))
        for name in ("wi_EMH", "wo_EHM"):
            np.testing.assert_array_equal(after[name][:, ::2], before[name])
            assert (np.asarray(after[name][:, 1::2]) != np.asarray(before[name])).mean() > 0.99


def test_subwords_begin_as_the_mean_of_those_that_spell_them():
    ids = np.array([[3, 0], [5, 7], [30, 0]], np.int32)
    pieces = PieceMap(ids, np.array([[1, 0], [0.5, 0.5], [1, 0]], np.float32))
    old = tiny.make(tiny.DENSE, seed=1).params
    new = begin(tiny.DENSE, tiny.DENSE, {"source": pieces})
    table = np.asarray(old["source_embedding_VM"])
    expected = [table[3], (table[5] + table[7]) / 2, table[30]]
    np.testing.assert_allclose(new["source_embedding_VM"], expected, rtol=1e-6)
    np.testing.assert_array_equal(new["target_embedding_VM"], old["target_embedding_VM"])


UNFIT = {
    "fewer layers": (DENSE_4, tiny.DENSE),
    "dense layers for experts": (tiny.MOE, DENSE_4),
    "fewer experts": (EIGHT, tiny.MOE),
    "experts that are no multiple": (tiny.MOE, tiny.with_moe(tiny.MOE, num_experts=6)),
    "another width": (tiny.DENSE, dataclasses.replace(tiny.DENSE, ffn_dim=48)),
    "a softmax of its own": (dataclasses.replace(tiny.DENSE, tie_softmax=False), tiny.DENSE),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_comes_back_in_its_own_shape(case):
    old, new = (tiny.make(config) for config in UNFIT[case])
    found = jax.eval_shape(
        lambda old, fresh: map_params(old, fresh, {}, InitConfig(), jax.random.key(0)),
        old.params,
        new.params,
    )
    assert shapes(found) != shapes(new.params)
