"""The losses of the gates at points where their values are known."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.routing.balance import balance_loss, squared_variation, z_loss
from tests.routing.problems import assert_gradient_matches_differences


def test_the_balance_loss_is_1_over_uniform_gates_and_counts():
    is_first_GSE = jnp.eye(4, dtype=bool)[jnp.arange(8) % 4][None]
    loss = balance_loss(jnp.full((1, 8, 4), 0.25), is_first_GSE, jnp.ones((1, 8), bool))
    np.testing.assert_allclose(loss, 1.0, rtol=1e-6)


def test_the_balance_loss_is_e_when_one_expert_gets_everything():
    is_first_GSE = jnp.zeros((1, 8, 4), bool).at[..., 2].set(True)
    loss = balance_loss(is_first_GSE.astype(jnp.float32), is_first_GSE, jnp.ones((1, 8), bool))
    np.testing.assert_allclose(loss, 4.0, rtol=1e-6)


def test_squared_variation_is_the_variance_over_the_squared_mean():
    np.testing.assert_allclose(squared_variation(jnp.array([1.0, 3.0])), 0.25, rtol=1e-6)
    assert squared_variation(jnp.full(5, 7.0)) == squared_variation(jnp.zeros(5)) == 0


def test_squared_variation_has_a_finite_gradient_at_zero():
    assert np.all(np.isfinite(jax.grad(squared_variation)(jnp.zeros(3))))


def test_z_loss_is_the_mean_squared_logsumexp_of_real_tokens():
    rng = np.random.default_rng(0)
    logits_GSE = rng.normal(size=(2, 6, 3)).astype(np.float32)
    is_token_GS = np.arange(6) < np.array([[4], [0]])
    expected = np.mean(np.log(np.exp(logits_GSE[0, :4]).sum(-1)) ** 2)
    logits_GSE[~is_token_GS] = 1e4
    np.testing.assert_allclose(
        z_loss(jnp.asarray(logits_GSE), jnp.asarray(is_token_GS)), expected, rtol=1e-5
    )


def test_losses_without_a_real_token_are_0():
    is_token_GS = jnp.zeros((1, 2), bool)
    assert z_loss(jnp.ones((1, 2, 3)), is_token_GS) == 0
    assert balance_loss(jnp.ones((1, 2, 3)), jnp.ones((1, 2, 3), bool), is_token_GS) == 0


@pytest.mark.parametrize(
    "loss",
    [lambda x: z_loss(x, jnp.arange(4)[None] < 3), lambda x: squared_variation(x + 3)],
    ids=["z_loss", "squared_variation"],
)
def test_gradients_match_finite_differences(loss):
    assert_gradient_matches_differences(loss, jax.random.normal(jax.random.key(0), (1, 4, 3)))
