"""The fused cross-entropy against the plain formula, in value and gradients."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.loss import MAX_CHUNK_TOKENS, Predictions, cross_entropy, pair_loss

M, V = 8, 30
LETTERS = ("BTM", "VM", "BT", "BT")
SCALE = 0.37  # training divides the loss by the number of tokens


def problem(rows: int, length: int) -> Predictions:
    rng = np.random.default_rng(rows * length)
    return Predictions(
        jnp.asarray(2 * rng.normal(size=(rows, length, M)), jnp.float32),
        jnp.asarray(rng.normal(size=(V, M)), jnp.float32),
        jnp.asarray(rng.integers(0, V, (rows, length)), jnp.int32),
        jnp.asarray(rng.random((rows, length)) < 0.7),
    )


def plain(hidden_BTM, table_VM, label_BT, is_token_BT, label_smoothing):
    """Label smoothing as written: cross-entropy against (1 - epsilon) one-hot + epsilon / V."""
    log_p_BTV = jax.nn.log_softmax(hidden_BTM @ table_VM.T)
    one_hot_BTV = jax.nn.one_hot(label_BT, V)
    smooth_BTV = (1 - label_smoothing) * one_hot_BTV + label_smoothing / V
    nll_BT = -jnp.sum(one_hot_BTV * log_p_BTV, -1)
    smoothed_BT = -jnp.sum(smooth_BTV * log_p_BTV, -1)
    return tuple(jnp.sum(jnp.where(is_token_BT, x, 0.0)) for x in (nll_BT, smoothed_BT))


@functools.cache
def expected(rows: int, length: int, label_smoothing: float):
    def loss(hidden_BTM, table_VM, label_BT, is_token_BT):
        sums = plain(hidden_BTM, table_VM, label_BT, is_token_BT, label_smoothing)
        return SCALE * sums[1], sums

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, sums), gradients = run(*problem(rows, length))
    return sums, gradients


def fused(label_smoothing: float, predictions: Predictions):
    def loss(*predictions):
        found = cross_entropy(Predictions(*predictions), label_smoothing, jnp.float32)
        return SCALE * found.smoothed, found

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, found), gradients = run(*predictions)
    return found, gradients


def check(predictions: Predictions, shape, label_smoothing: float):
    found, gradients = fused(label_smoothing, predictions)
    sums, expected_gradients = expected(*shape, label_smoothing)
    np.testing.assert_allclose(found[:2], sums, rtol=1e-5)
    assert found.num_tokens == problem(*shape)[3].sum()
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    padding_BTM = np.asarray(gradients[0])[~np.asarray(problem(*shape)[3])]
    assert not np.any(padding_BTM)
    return found


# One chunk; several; chunks of one token (their number is prime).
SHAPES = [(3, 5), (8, 3 * MAX_CHUNK_TOKENS // 8 + 1), (1, 521)]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_is_the_plain_formula(shape, label_smoothing):
    found = check(problem(*shape), shape, label_smoothing)
    assert (found.nll == found.smoothed) == (label_smoothing == 0.0)


@pytest.mark.parametrize(
    ("grid", "shape", "label_smoothing"),
    [((1, 8), (8, 7), 0.0), ((2, 4), (8, 7), 0.1), ((2, 4), (16, 3 * MAX_CHUNK_TOKENS // 8), 0.1)],
)
def test_cross_entropy_is_the_plain_formula_on_eight_devices(grid, shape, label_smoothing):
    mesh = build_mesh(*grid)
    with jax.set_mesh(mesh):
        check(put(problem(*shape), mesh), shape, label_smoothing)


def put_array(array, letters: str, mesh):
    return jax.device_put(array, sharding(mesh, letters, array.ndim))


def put(predictions: Predictions, mesh) -> Predictions:
    letters = ("BTM", "VM", "BT", "BT")
    return Predictions(
        *(put_array(x, axes, mesh) for x, axes in zip(predictions, letters, strict=True))
    )


def test_the_value_alone_is_the_value_with_gradients():
    loss = jax.jit(functools.partial(cross_entropy, label_smoothing=0.1, dtype=jnp.float32))
    sums, _ = expected(3, 5, 0.1)
    np.testing.assert_allclose(loss(problem(3, 5))[:2], sums, rtol=1e-5)


@pytest.mark.parametrize(
    ("num_devices", "shape"), [(1, (16, 3 * MAX_CHUNK_TOKENS // 8)), (8, (8, 7))]
)
def test_the_loss_by_language_pair_is_the_sum_of_the_plain_formula(shape, num_devices):
    predictions = problem(*shape)
    pair_BT = np.random.default_rng(1).integers(0, 4, shape)  # of 5: the last has no token
    mesh = build_mesh(1, num_devices, devices=jax.devices()[:num_devices])
    with jax.set_mesh(mesh):
        loss = jax.jit(functools.partial(pair_loss, num_pairs=5, dtype=jnp.float32))
        found = loss(put(predictions, mesh), put_array(jnp.asarray(pair_BT), "BT", mesh))
    hidden_BTM, table_VM, label_BT, is_token_BT = map(np.asarray, predictions)
    log_p_BTV = jax.nn.log_softmax(hidden_BTM @ table_VM.T)
    nll_BT = -np.take_along_axis(np.asarray(log_p_BTV), label_BT[..., None], -1)[..., 0]
    for pair in range(5):
        is_pair_BT = is_token_BT & (pair_BT == pair)
        assert found.num_tokens_X[pair] == is_pair_BT.sum()
        np.testing.assert_allclose(found.nll_X[pair], nll_BT[is_pair_BT].sum(), rtol=1e-5)


def test_a_batch_of_padding_has_no_loss_and_no_gradient():
    predictions = problem(3, 5)
    nothing = jnp.zeros_like(predictions.is_token_BT)
    found, gradients = fused(0.1, predictions._replace(is_token_BT=nothing))
    assert (found.nll, found.smoothed, found.num_tokens) == (0, 0, 0)
    assert not any(np.any(gradient) for gradient in gradients)


def test_large_logits_stay_finite():
    predictions = problem(3, 5)
    found, gradients = fused(0.1, predictions._replace(hidden_BTM=1e4 * predictions.hidden_BTM))
    assert np.isfinite(found.smoothed) and all(np.all(np.isfinite(g)) for g in gradients)


def test_the_logits_of_a_batch_never_exist_as_a_whole():
    def loss(*predictions):
        return cross_entropy(Predictions(*predictions), 0.1, jnp.float32).smoothed

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    text = gradient.lower(*problem(8, MAX_CHUNK_TOKENS)).as_text()
    assert f"{MAX_CHUNK_TOKENS}x{V}xf32" in text
    assert f"{8 * MAX_CHUNK_TOKENS}x{V}xf32" not in text
    assert f"8x{MAX_CHUNK_TOKENS}x{V}xf32" not in text
