"""Schedules at chosen steps; Adafactor matrix by matrix; the sharding of optimizer state."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gshard_mt.config.records import Config, TrainConfig
from gshard_mt.config.stages import StageConfig
from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.axes import letters_of
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.train.optimizer import (
    learning_rate_schedule,
    make_optimizer,
    per_matrix,
)
from gshard_mt.train.state import abstract_training, initial_opt_state
from tests.model import tiny


def rates(steps, **values) -> list[float]:
    schedule = learning_rate_schedule(TrainConfig(**values))
    return [float(np.asarray(schedule(jnp.int32(step)))) for step in steps]


def test_the_papers_schedule_is_constant_then_one_over_the_root_of_the_step():
    steps = [0, 1, 5_000, 9_999, 10_000, 10_001, 40_000, 1_000_000]
    found = rates(steps, schedule="paper", learning_rate=0.01, warmup_steps=10_000)
    expected = [1 / max(step, 10_000) ** 0.5 for step in steps]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("constant", [0.2, 0.2, 0.2, 0.2]),
        ("inverse_sqrt", [0.2, 0.2 * (4 / 14) ** 0.5, 0.2 * (4 / 24) ** 0.5, 0.02]),
        ("linear", [0.2, 0.1, 0.0, 0.0]),
        ("cosine", [0.2, 0.1, 0.0, 0.0]),
    ],
)
def test_a_schedule_warms_up_to_its_peak_and_decays_from_there(schedule, expected):
    values = {"learning_rate": 0.2, "warmup_steps": 4, "num_steps": 24, "schedule": schedule}
    np.testing.assert_allclose(rates(range(4), **values), [0.05, 0.0875, 0.125, 0.1625], rtol=1e-6)
    np.testing.assert_allclose(rates([4, 14, 24, 400], **values), expected, rtol=1e-5, atol=1e-8)


def test_a_stage_scales_the_rate_of_its_steps_and_of_no_other():
    values = {"learning_rate": 0.2, "warmup_steps": 4, "num_steps": 24, "schedule": "cosine"}
    stages = (StageConfig(until=10, rate=0.5), StageConfig(until=11), StageConfig(rate=3))
    factors = [0.5] * 10 + [1.0] + [3.0] * 13  # of the steps 1 to 24, which optax counts from 0
    expected = np.multiply(rates(range(24), **values), factors)
    np.testing.assert_allclose(rates(range(24), **values, stages=stages), expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt", "linear", "cosine", "paper"])
def test_without_warmup_the_first_step_has_the_peak(schedule):
    found = rates([0, 1], schedule=schedule, learning_rate=0.2, warmup_steps=0, num_steps=100)
    np.testing.assert_allclose(found[0], 0.2, rtol=1e-6)
    assert np.all(np.isfinite(found))


# Names tell how a leaf is stacked; matrices of 128 x 128 or more are factored.
STACKED = {
    "wi_EMH": (2, 3, 128, 130),
    "wo_EHM": (2, 3, 16, 12),
    "wg_ME": (2, 130, 140),
    "wq_MND": (2, 16, 2, 6),
    "scale_M": (2, 16),
    "table_VM": (150, 128),
}
NUM_BATCH_AXES = {"wi_EMH": 2, "wo_EHM": 2, "wg_ME": 1, "wq_MND": 1, "scale_M": 1, "table_VM": 0}


def draw(seed: int) -> dict:
    """Arrays whose matrices differ in scale, so that mixing them would show."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        * np.exp(rng.normal(size=(*shape[:2], *(1 for _ in shape[2:])))).astype(np.float32)
        for name, shape in STACKED.items()
    }


@functools.cache
def three_steps_per_matrix():
    letters = {name: letters_of(name) for name in STACKED}
    rule = per_matrix(optax.adafactor(0.1, weight_decay_rate=0.01), letters)
    return run_steps(rule, jax.jit(rule.update), lambda tree: tree)


def run_steps(rule, update, pick) -> tuple[Any, Any]:
    """Returns parameters and state after three steps on the part of the tree that `pick` takes."""
    params = jax.tree.map(jnp.asarray, pick(draw(0)))
    state = rule.init(params)
    for seed in range(1, 4):
        updates, state = update(pick(draw(seed)), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params, state


@pytest.mark.parametrize("name", STACKED)
def test_adafactor_on_a_stack_is_adafactor_on_each_matrix_by_itself(name):
    params, _ = three_steps_per_matrix()
    rule = optax.adafactor(0.1, weight_decay_rate=0.01)
    update = jax.jit(rule.update)
    for index in np.ndindex(STACKED[name][: NUM_BATCH_AXES[name]]):
        expected, _ = run_steps(rule, update, lambda tree, index=index: tree[name][index])
        scale = np.abs(expected).max()
        np.testing.assert_allclose(params[name][index], expected, rtol=1e-5, atol=1e-5 * scale)
        assert np.abs(expected - draw(0)[name][index]).max() > 0.01 * scale  # it moved


def test_the_second_moment_of_large_matrices_is_factored():
    _, state = three_steps_per_matrix()
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(state[name])) for name in STACKED}
    for name in ("wi_EMH", "wg_ME", "table_VM"):
        assert sizes[name] < np.prod(STACKED[name]) / 20
    assert sizes["wo_EHM"] >= np.prod(STACKED["wo_EHM"])


def shapes_of(name: str, mesh):
    """The state of a model whose experts are large enough for Adafactor to factor."""
    config = Config(model=dataclasses.replace(tiny.MOE, model_dim=128, ffn_dim=136))
    config.train.optimizer = name
    return abstract_training(config, tiny.VOCAB_SIZES, mesh)[2]


def last_name(path) -> str:
    names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
    return names[-1] if names else ""


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_the_optimizer_state_of_an_expert_is_on_the_experts_device(name):
    like = shapes_of(name, build_mesh(2, 4))
    num_split = 0
    for path, leaf in jax.tree.flatten_with_path(like.opt_state)[0]:
        if last_name(path).endswith(("_EMH", "_EHM")):
            assert leaf.shape[:2] == (1, 4)
            assert leaf.sharding.spec[:2] == (None, "expert")
            assert leaf.sharding.shard_shape(leaf.shape)[1] == 1
            num_split += 1
        else:
            assert leaf.sharding.is_fully_replicated
    kinds = {"adafactor": 4, "adamw": 2}[name]  # count, row, column, full; mu, nu
    assert num_split >= 2 * 2 * kinds
    for path, param in jax.tree.flatten_with_path(like.params)[0]:
        is_expert = last_name(path).endswith(("_EMH", "_EHM"))
        assert param.sharding.is_fully_replicated != is_expert


def test_the_gradient_is_clipped_by_its_global_norm():
    letters = {"a_M": "M", "b_M": "M"}
    params = {"a_M": jnp.ones(2), "b_M": jnp.ones(3)}
    gradient = {"a_M": jnp.array([30.0, 0.0]), "b_M": jnp.array([0.0, 40.0, 0.0])}
    small = jax.tree.map(lambda x: x / 50, gradient)
    config = TrainConfig(optimizer="adamw", max_grad_norm=1.0)
    clipped = make_optimizer(config, letters)
    free = make_optimizer(dataclasses.replace(config, max_grad_norm=0.0), letters)

    def moment(rule, gradient):
        _, state = jax.jit(rule.update)(gradient, rule.init(params), params)
        return [x for x in jax.tree.leaves(state) if x.ndim]

    for found, expected in zip(moment(clipped, gradient), moment(free, small), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


SMALL = {"encoder": {"wq_MND": (1, 4, 2, 3), "wg_ME": (1, 4, 3)}, "table_VM": (5, 4)}


def updates_of(config: TrainConfig, num_steps: int = 3) -> tuple[Any, Any]:
    """Updates of the last step and the state, for gradients that do not depend on the config."""
    rng = np.random.default_rng(0)
    is_shape = {"is_leaf": lambda x: isinstance(x, tuple)}
    params = jax.tree.map(lambda shape: rng.normal(size=shape).astype("f"), SMALL, **is_shape)
    letters = jax.tree.map_with_path(lambda path, _: letters_of(path[-1].key), params)
    rule = make_optimizer(config, letters)
    state, update, updates = rule.init(params), jax.jit(rule.update), None
    for _ in range(num_steps):
        gradient = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f"), params)
        updates, state = update(gradient, state, params)
    return updates, state


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_frozen_parameters_have_no_updates_and_no_state_and_change_nothing_for_the_others(name):
    config = TrainConfig(optimizer=name, max_grad_norm=0.0, weight_decay=0.01)
    expected, whole = updates_of(config)
    updates, state = updates_of(dataclasses.replace(config, freeze="*/wq_*, table_VM"))
    np.testing.assert_allclose(updates["encoder"]["wg_ME"], expected["encoder"]["wg_ME"], rtol=1e-6)
    assert not np.any(updates["encoder"]["wq_MND"]) and not np.any(updates["table_VM"])
    names = [last_name(path) for path, _ in jax.tree.flatten_with_path(state)[0]]
    assert "wg_ME" in names and not {"wq_MND", "table_VM"} & set(names)
    assert len(jax.tree.leaves(state)) < len(jax.tree.leaves(whole))


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_a_rate_is_scaled_and_the_last_glob_counts(name):
    config = TrainConfig(optimizer=name, weight_decay=0.01)
    expected, _ = updates_of(config)
    scaled = dataclasses.replace(config, rate_scales="encoder/*=0.5, */wg_ME=0")
    updates, _ = updates_of(scaled)
    np.testing.assert_allclose(
        updates["encoder"]["wq_MND"], 0.5 * expected["encoder"]["wq_MND"], rtol=1e-6
    )
    assert not np.any(updates["encoder"]["wg_ME"])
    np.testing.assert_allclose(updates["table_VM"], expected["table_VM"], rtol=1e-6)


def test_l2_sp_pulls_every_parameter_that_learns_to_where_it_began_as_in_numpy():
    config = TrainConfig(optimizer="adamw", learning_rate=0.1, warmup_steps=2, max_grad_norm=0.0)
    config = dataclasses.replace(config, weight_decay=0.3, l2_sp=2.0)
    config = dataclasses.replace(config, rate_scales="slow_M=0.5", freeze="frozen_M")
    rates = {"free_M": 1.0, "slow_M": 0.5, "frozen_M": 0.0}
    draw = np.random.default_rng(0).normal
    start = {name: draw(size=5) for name in rates}
    gradients = [{name: draw(size=5) for name in rates} for _ in range(4)]

    rule = make_optimizer(config, dict.fromkeys(rates, "M"))
    params: Any = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
    state, update = rule.init(params), jax.jit(rule.update)
    for gradient in gradients:
        updates, state = update(jax.tree.map(jnp.float32, gradient), state, params)
        params = optax.apply_updates(params, updates)

    schedule = learning_rate_schedule(config)
    for name, scale in rates.items():
        now, mean, square = start[name], 0.0, 0.0
        for step, gradient in enumerate(gradients, 1):
            mean = 0.9 * mean + 0.1 * gradient[name]
            square = 0.98 * square + 0.02 * gradient[name] ** 2
            adam = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.98**step)) + 1e-8)
            pull = 0.3 * now + 2.0 * (now - start[name])
            now = now - scale * float(np.asarray(schedule(step - 1))) * (adam + pull)
        np.testing.assert_allclose(params[name], now, rtol=1e-5, atol=1e-6)
    kept = [last_name(path) for path, _ in jax.tree.flatten_with_path(state)[0]]
    assert "slow_M" in kept and "frozen_M" not in kept


def test_l2_sp_is_added_to_what_adafactor_does():
    config = TrainConfig(learning_rate=0.1, warmup_steps=0, schedule="constant")
    letters = {"wg_ME": "ME", "scale_M": "M"}
    shapes, draw = {"wg_ME": (4, 3), "scale_M": (4,)}, np.random.default_rng(0).normal
    start, gradient = (
        {name: draw(size=shape).astype("f") for name, shape in shapes.items()} for _ in range(2)
    )
    found = []
    for l2_sp in (0.0, 2.0):
        rule = make_optimizer(dataclasses.replace(config, l2_sp=l2_sp), letters)
        params = jax.tree.map(lambda x: np.float32(1.5) * x, start)
        found.append(jax.jit(rule.update)(gradient, rule.init(start), params)[0])
    for name, array in start.items():
        np.testing.assert_allclose(
            found[1][name], found[0][name] - 0.1 * 2.0 * 0.5 * array, rtol=1e-5, atol=1e-6
        )


def test_the_start_is_sharded_like_parameters_and_pulls_alike_on_every_mesh():
    config = Config(model=tiny.DENSE, train=TrainConfig(optimizer="adamw", l2_sp=2.0))
    arrays, found = tiny.make(config.model).params, []
    for shape in ((1, 1, 1), (2, 2, 2)):
        mesh = build_mesh(*shape, devices=jax.devices()[: np.prod(shape)])
        config.mesh.shard_parameters = mesh.size > 1
        blueprint, rule, like = abstract_training(config, tiny.VOCAB_SIZES, mesh)
        placed = jax.tree.map(lambda x: x.sharding, (blueprint.params, like.opt_state))
        start = jax.device_put(arrays, placed[0])
        state = initial_opt_state(blueprint, rule, start)
        kept = state[-1].start
        assert jax.tree.map(lambda x: x.sharding, (kept, state)) == placed
        params = jax.tree.map(lambda x: jax.device_put(1.5 * np.asarray(x), x.sharding), start)
        updates, _ = jax.jit(rule.update)(start, state, params)
        found.append(updates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-8), *found)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"freeze": "decoder/*"}, "train.freeze: found 'decoder/.', accepted: .*such as encoder/w"),
        ({"freeze": "*/wg_EM"}, "such as encoder/wg_ME"),
        ({"freeze": "*"}, "train.freeze: found ., accepted: not all"),
        ({"rate_scales": "*/wg_ME"}, "train.rate_scales: found './wg_ME', accepted: GLOB=FACTOR"),
        ({"rate_scales": "*=-1"}, "GLOB=FACTOR"),
        ({"rate_scales": "*=nan"}, "GLOB=FACTOR"),
        ({"rate_scales": "tabel_VM=2"}, "such as table_VM"),
    ],
)
def test_a_glob_that_matches_nothing_is_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as raised:
        updates_of(TrainConfig(**values))
    assert "\n" not in str(raised.value)
