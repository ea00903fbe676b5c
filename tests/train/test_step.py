"""Training steps: equal on every mesh, a function of state, batch and seed; they learn."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.config.records import Config
from gshard_mt.data.batches import Batch
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.optimizer import learning_rate_schedule
from gshard_mt.train.state import TrainState, abstract_training, initial_state
from gshard_mt.train.step import make_dev_step, make_gradient, make_train_step
from tests.model import tiny

LENGTH = 16


def make_config() -> Config:
    """With dropout, random second experts and too few slots.

    Adafactor takes its steps on eight devices in test_shard_parameters.py.
    """
    config = Config()
    config.model = dataclasses.replace(
        tiny.with_moe(tiny.MOE, num_experts=8, group_size=16, capacity_factor=1.5),
        dropout_rate=0.1,
        ffn_dropout_rate=0.1,
    )
    config.train.schedule = "constant"
    config.train.learning_rate = 0.01
    config.train.warmup_steps = 2
    config.train.optimizer = "adamw"
    return config


CONFIG = make_config()


def copy_batch(seed: int) -> Batch:
    """Eight packed rows of sentences to copy, padded at the end."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(8):
        lengths = rng.integers(3, 7, 2)
        ids = [rng.integers(4, 20, length) for length in lengths]
        rows.append([tiny.Sentence(i, i) for i in ids])
    return tiny.pack(rows, LENGTH)


class Trainer:
    """The compiled step of one mesh."""

    def __init__(self, mesh, config=CONFIG):
        self.mesh = mesh
        self.blueprint, self.optimizer, self.like = abstract_training(
            config, tiny.VOCAB_SIZES, mesh
        )
        self.train_step = make_train_step(self.blueprint, config.train, self.optimizer)
        self.dev_step = make_dev_step(self.blueprint, config.train)

    def initial_state(self) -> TrainState:
        with jax.set_mesh(self.mesh):
            return initial_state(self.blueprint, self.optimizer, CONFIG.train.seed)

    def put(self, state) -> TrainState:
        """Copies a state from another mesh to this one."""
        return jax.tree.map(
            lambda array, like: jax.device_put(np.array(array), like.sharding), state, self.like
        )

    def steps(self, state, batches) -> tuple[TrainState, list]:
        """Takes one step per batch; the caller may reuse the state."""
        state, all_metrics = self.put(jax.device_get(state)), []
        with jax.set_mesh(self.mesh):
            for batch in batches:
                batch = jax.device_put(batch, sharding(self.mesh, "BL", 2))
                state, metrics = self.train_step(state, batch)
                all_metrics.append(jax.device_get(metrics))
        return state, all_metrics

    def dev_loss(self, params, batch):
        params = jax.tree.map(
            lambda array, like: jax.device_put(array, like.sharding), params, self.like.params
        )
        with jax.set_mesh(self.mesh):
            batch = jax.device_put(batch, sharding(self.mesh, "BL", 2))
            return jax.device_get(self.dev_step(params, batch))


@pytest.fixture(scope="module")
def alone():
    return Trainer(tiny.one_device())


@pytest.fixture(scope="module")
def start(alone):
    return jax.device_get(alone.initial_state())


@pytest.fixture(scope="module")
def after_three(alone, start):
    """The state and metrics of three steps on one device."""
    return alone.steps(start, [copy_batch(seed) for seed in range(3)])


def leaves(tree):
    return [
        (jax.tree_util.keystr(path), np.asarray(leaf))
        for path, leaf in jax.tree.flatten_with_path(tree)[0]
    ]


@pytest.fixture(scope="module")
def on_eight() -> Trainer:
    return Trainer(build_mesh(2, 2, 2))


def test_eight_devices_take_the_steps_of_one(on_eight, start, after_three):
    """After three steps every parameter agrees to 1e-5 of its largest value."""
    state, metrics = on_eight.steps(start, [copy_batch(seed) for seed in range(3)])
    expected, expected_metrics = after_three
    for (name, found), (_, wanted) in zip(
        leaves(state.params), leaves(expected.params), strict=True
    ):
        np.testing.assert_allclose(
            found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(), err_msg=name
        )
    for found, wanted in zip(metrics, expected_metrics, strict=True):
        for stack, counters in found.routing.items():
            np.testing.assert_array_equal(counters.load_XE, wanted.routing[stack].load_XE)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    for leaf, like in zip(jax.tree.leaves(state), jax.tree.leaves(on_eight.like), strict=True):
        assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
    assert on_eight.train_step._cache_size() == 1  # compiled once for all steps


def test_the_initial_state_is_equal_on_every_mesh_and_sharded_like_the_abstract_one(
    on_eight, start
):
    state = on_eight.initial_state()
    for leaf, like in zip(jax.tree.leaves(state), jax.tree.leaves(on_eight.like), strict=True):
        assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
        assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
    for (name, found), (_, wanted) in zip(leaves(state), leaves(start), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, err_msg=name)


def test_a_step_changes_every_parameter_and_counts_itself(start, after_three):
    state, metrics = after_three
    assert state.step == 3
    for (name, before), (_, after) in zip(leaves(start.params), leaves(state.params), strict=True):
        assert np.any(before != after), name
    schedule = learning_rate_schedule(CONFIG.train)
    for number, found in enumerate(metrics):
        np.testing.assert_allclose(found.learning_rate, schedule(jnp.int32(number)), rtol=1e-6)
        assert found.grad_norm > 0


def test_metrics_count_what_is_in_the_batch(after_three):
    for seed, found in enumerate(after_three[1]):
        batch = copy_batch(seed)
        num_source = np.count_nonzero(batch.source_segment_BL)
        num_target = np.count_nonzero(batch.target_segment_BT)
        assert found.source_tokens == num_source
        assert found.token_loss.num_tokens == num_target
        # One MoE layer in the encoder, one in the decoder.
        for stack, num_tokens in (("encoder", num_source), ("decoder", num_target)):
            counters = found.routing[stack]
            assert counters.num_tokens_X.sum() == counters.num_dispatched_XK.sum() == num_tokens
            assert np.any(counters.num_over_capacity_XK[..., 0])
        assert 1.5 < found.aux_loss < 8
        assert found.token_loss.smoothed > found.token_loss.nll * 0.9


def test_a_step_is_a_function_of_state_batch_and_seed(alone, start):
    batch = copy_batch(0)
    (first, _), (again, _) = alone.steps(start, [batch]), alone.steps(start, [batch])
    for (name, found), (_, wanted) in zip(leaves(first), leaves(again), strict=True):
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    later = start._replace(step=np.int32(7))  # another step draws another dropout
    other, _ = alone.steps(later, [batch])
    table = "target_embedding_VM"
    assert np.any(np.asarray(other.params[table]) != np.asarray(first.params[table]))


def test_the_dev_step_is_deterministic_and_ignores_dropout(alone, start):
    losses = [alone.dev_loss(start.params, copy_batch(0)) for _ in range(2)]
    assert losses[0] == losses[1]
    per_token = losses[0].nll_X[0] / losses[0].num_tokens_X[0]
    assert abs(per_token - np.log(tiny.TARGET_SIZE)) < 1.5  # a new model is close to uniform


def test_training_on_one_batch_learns_it(alone, start):
    """Copying eight packed rows: from no knowledge to almost no error."""
    batch = copy_batch(0)
    state, metrics = alone.steps(start, [batch] * 300)
    nll = [m.token_loss.nll / m.token_loss.num_tokens for m in metrics]
    assert nll[0] > 2.5
    assert np.mean(nll[-10:]) < 0.7  # with dropout
    loss = alone.dev_loss(state.params, batch)
    assert loss.nll_X[0] / loss.num_tokens_X[0] < 0.3


def test_a_bfloat16_step_with_experts_has_nearly_the_float32_loss(start, after_three):
    config = make_config()
    config.model.dtype = "bfloat16"
    low, batch = Trainer(tiny.one_device(), config), copy_batch(0)
    # The step's own forward pass, with its key.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.train.seed), 1), 0)
    _, (token_loss, _, _) = jax.jit(make_gradient(low.blueprint, config.train))(
        start.params, batch, key
    )
    expected = after_three[1][0].token_loss.nll
    np.testing.assert_allclose(token_loss.nll, expected, rtol=0.02)
    with jax.set_mesh(low.mesh):
        state, _ = jax.eval_shape(low.train_step, low.like, batch)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(state.params))
