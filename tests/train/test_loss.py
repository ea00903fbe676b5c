"""The fused cross-entropy against the plain formula, in value and gradients."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.loss import MAX_CHUNK_TOKENS, cross_entropy, pair_loss

M, V = 8, 30
SCALE = 0.37  # what follows the loss in training divides it


def problem(rows: int, length: int):
    rng = np.random.default_rng(rows * length)
    return (
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
    hidden_BTM, table_VM, label_BT, is_token_BT = problem(rows, length)

    @jax.jit
    def run(hidden_BTM, table_VM):
        def loss(hidden_BTM, table_VM):
            sums = plain(hidden_BTM, table_VM, label_BT, is_token_BT, label_smoothing)
            return SCALE * sums[1], sums

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(hidden_BTM, table_VM)

    (_, sums), gradients = run(hidden_BTM, table_VM)
    return sums, gradients


def fused(label_smoothing: float, arguments):
    @jax.jit
    def run(hidden_BTM, table_VM, label_BT, is_token_BT):
        def loss(hidden_BTM, table_VM):
            found = cross_entropy(
                hidden_BTM, table_VM, label_BT, is_token_BT, label_smoothing, jnp.float32
            )
            return SCALE * found.smoothed, found

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(hidden_BTM, table_VM)

    (_, found), gradients = run(*arguments)
    return found, gradients


def check(arguments, shape, label_smoothing: float):
    found, gradients = fused(label_smoothing, arguments)
    sums, expected_gradients = expected(*shape, label_smoothing)
    np.testing.assert_allclose(found[:2], sums, rtol=1e-5)
    assert found.num_tokens == problem(*shape)[3].sum()
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    padding_BTM = np.asarray(gradients[0])[~np.asarray(problem(*shape)[3])]
    assert not np.any(padding_BTM)
    return found


# One chunk; several; none but single tokens (a prime number of them).
SHAPES = [(3, 5), (8, 3 * MAX_CHUNK_TOKENS // 8 + 1), (1, 521)]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_is_the_plain_formula(shape, label_smoothing):
    found = check(problem(*shape), shape, label_smoothing)
    assert (found.nll == found.smoothed) == (label_smoothing == 0.0)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(8, 7), (16, 3 * MAX_CHUNK_TOKENS // 8)])
@pytest.mark.parametrize("grid", [(1, 8), (2, 4)])
def test_cross_entropy_is_the_plain_formula_on_eight_devices(grid, shape, label_smoothing):
    mesh = build_mesh(*grid)
    with jax.set_mesh(mesh):
        arguments = [
            jax.device_put(array, sharding(mesh, letters, array.ndim))
            for array, letters in zip(problem(*shape), ("BTM", "VM", "BT", "BT"), strict=True)
        ]
        check(arguments, shape, label_smoothing)


def test_the_value_alone_is_the_value_with_gradients():
    arguments = problem(3, 5)
    loss = jax.jit(functools.partial(cross_entropy, label_smoothing=0.1, dtype=jnp.float32))
    sums, _ = expected(3, 5, 0.1)
    np.testing.assert_allclose(loss(*arguments)[:2], sums, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 7), (16, 3 * MAX_CHUNK_TOKENS // 8)])
@pytest.mark.parametrize("num_devices", [1, 8])
def test_the_loss_by_pair_adds_up_what_the_plain_formula_has_for_a_token(shape, num_devices):
    arguments = problem(*shape)
    pair_BT = np.random.default_rng(1).integers(0, 4, shape)  # of 5: the last one isn't there
    mesh = build_mesh(1, num_devices, devices=jax.devices()[:num_devices])
    with jax.set_mesh(mesh):
        placed = [
            jax.device_put(array, sharding(mesh, letters, array.ndim))
            for array, letters in zip(
                [*arguments, jnp.asarray(pair_BT)], ("BTM", "VM", "BT", "BT", "BT"), strict=True
            )
        ]
        found = jax.jit(functools.partial(pair_loss, num_pairs=5, dtype=jnp.float32))(*placed)
    hidden_BTM, table_VM, label_BT, is_token_BT = map(np.asarray, arguments)
    log_p_BTV = jax.nn.log_softmax(hidden_BTM @ table_VM.T)
    nll_BT = -np.take_along_axis(np.asarray(log_p_BTV), label_BT[..., None], -1)[..., 0]
    for pair in range(5):
        is_pair_BT = is_token_BT & (pair_BT == pair)
        assert found.num_tokens_X[pair] == is_pair_BT.sum()
        np.testing.assert_allclose(found.nll_X[pair], nll_BT[is_pair_BT].sum(), rtol=1e-5)


def test_a_batch_of_padding_has_no_loss_and_no_gradient():
    hidden_BTM, table_VM, label_BT, is_token_BT = problem(3, 5)
    nothing = jnp.zeros_like(is_token_BT)
    found, gradients = fused(0.1, (hidden_BTM, table_VM, label_BT, nothing))
    assert (found.nll, found.smoothed, found.num_tokens) == (0, 0, 0)
    assert not any(np.any(gradient) for gradient in gradients)


def test_large_logits_stay_finite():
    hidden_BTM, table_VM, label_BT, is_token_BT = problem(3, 5)
    found, gradients = fused(0.1, (1e4 * hidden_BTM, table_VM, label_BT, is_token_BT))
    assert np.isfinite(found.smoothed) and all(np.all(np.isfinite(g)) for g in gradients)


def test_the_logits_of_a_batch_never_exist_as_a_whole():
    shape = (8, MAX_CHUNK_TOKENS)
    hidden_BTM, table_VM, label_BT, is_token_BT = problem(*shape)

    def gradient(hidden_BTM, table_VM):
        def loss(hidden_BTM, table_VM):
            return cross_entropy(
                hidden_BTM, table_VM, label_BT, is_token_BT, 0.1, jnp.float32
            ).smoothed

        return jax.grad(loss, argnums=(0, 1))(hidden_BTM, table_VM)

    text = jax.jit(gradient).lower(hidden_BTM, table_VM).as_text()
    assert f"{MAX_CHUNK_TOKENS}x{V}xf32" in text
    assert f"{8 * MAX_CHUNK_TOKENS}x{V}xf32" not in text
    assert f"8x{MAX_CHUNK_TOKENS}x{V}xf32" not in text
