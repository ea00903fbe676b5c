"""The losses of the gates at points where their values are known."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.routing.balance import balance_loss, squared_variation, z_loss
from tests.routing.problems import assert_gradient_matches_differences

balance = jax.jit(balance_loss)


def test_the_balance_loss_is_1_over_uniform_gates_and_counts():
    is_first_GSE = np.eye(4, dtype=bool)[np.arange(8) % 4][None]
    gates_GSE = np.full((1, 8, 4), 0.25, np.float32)
    loss = balance(gates_GSE, is_first_GSE, np.ones((1, 8), bool))
    np.testing.assert_allclose(loss, 1.0, rtol=1e-6)


def test_the_balance_loss_is_e_when_one_expert_gets_everything():
    is_first_GSE = np.tile(np.arange(4) == 2, (1, 8, 1))
    loss = balance(is_first_GSE.astype(np.float32), is_first_GSE, np.ones((1, 8), bool))
    np.testing.assert_allclose(loss, 4.0, rtol=1e-6)


def test_squared_variation_is_the_variance_over_the_squared_mean():
    np.testing.assert_allclose(squared_variation(jnp.array([1.0, 3.0])), 0.25, rtol=1e-6)
    assert squared_variation(jnp.full(5, 7.0)) == squared_variation(jnp.zeros(5)) == 0


def test_squared_variation_has_a_finite_gradient_at_zero():
    gradient = jax.jit(jax.grad(squared_variation))(np.zeros(3, np.float32))
    assert np.all(np.isfinite(gradient))


def test_z_loss_is_the_mean_squared_logsumexp_of_real_tokens():
    rng = np.random.default_rng(0)
    logits_GSE = rng.normal(size=(2, 6, 3)).astype(np.float32)
    is_token_GS = np.arange(6) < np.array([[4], [0]])
    expected = np.mean(np.log(np.exp(logits_GSE[0, :4]).sum(-1)) ** 2)
    logits_GSE[~is_token_GS] = 1e4
    np.testing.assert_allclose(jax.jit(z_loss)(logits_GSE, is_token_GS), expected, rtol=1e-5)


def test_losses_without_a_real_token_are_0():
    is_token_GS, ones_GSE = np.zeros((1, 8), bool), np.ones((1, 8, 4), np.float32)
    assert jax.jit(z_loss)(ones_GSE, is_token_GS) == 0
    assert balance(ones_GSE, ones_GSE > 0, is_token_GS) == 0


@pytest.mark.parametrize(
    "loss",
    [lambda x: jax.jit(z_loss)(x, np.arange(4)[None] < 3), lambda x: squared_variation(x + 3)],
    ids=["z_loss", "squared_variation"],
)
def test_gradients_match_finite_differences(loss):
    x_GSE = np.random.default_rng(0).normal(size=(1, 4, 3)).astype(np.float32)
    assert_gradient_matches_differences(loss, x_GSE)
