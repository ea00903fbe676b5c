"""Gathers between tokens and places: a place is a slot of an expert, or a row of sorted choices."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

# Two tables say the same: `place_GSK` has the place of every choice, P if it has none; `choice_GP`
# the choice s * K + k that a place holds, S * K if it is empty. An index past the end fetches
# zeros. With both, every gradient is a gather too, where JAX's own rule would scatter-add floats.


def _fetch(x_GNM: jax.Array, index_GI: jax.Array) -> jax.Array:
    """Returns rows of `x` within each group, zeros for an index past the end."""

    def fetch(x_NM: jax.Array, index_I: jax.Array) -> jax.Array:
        return x_NM.at[index_I].get(mode="fill", fill_value=0)

    return jax.vmap(fetch)(x_GNM, index_GI)


def _fetch_sum(x_GPM: jax.Array, place_GSK: jax.Array, weight_GSK: jax.Array) -> jax.Array:
    """Returns each token's weighted sum over its K places, added up in float32."""
    sum_GSM = jnp.zeros((), jnp.float32)
    for k in range(place_GSK.shape[-1]):
        x_GSM = _fetch(x_GPM, place_GSK[..., k]).astype(jnp.float32)
        sum_GSM = sum_GSM + weight_GSK[..., k, None] * x_GSM
    return sum_GSM.astype(x_GPM.dtype)


@jax.custom_vjp
def fetch_tokens(x_GSM: jax.Array, place_GSK: jax.Array, choice_GP: jax.Array) -> jax.Array:
    """Returns the token of every place [G, P, M], zeros where it is empty."""
    return _fetch(x_GSM, choice_GP // place_GSK.shape[-1])


def _fetch_tokens_forward(x_GSM, place_GSK, choice_GP):
    return fetch_tokens(x_GSM, place_GSK, choice_GP), place_GSK


def _fetch_tokens_backward(place_GSK, dx_GPM):
    dx_GSM = _fetch_sum(dx_GPM, place_GSK, jnp.ones(place_GSK.shape))
    return dx_GSM, None, None


fetch_tokens.defvjp(_fetch_tokens_forward, _fetch_tokens_backward)


@jax.custom_vjp
def fetch_outputs(
    x_GPM: jax.Array, weight_GSK: jax.Array, place_GSK: jax.Array, choice_GP: jax.Array
) -> jax.Array:
    """Returns each token's weighted sum over its K places [G, S, M], added up in float32."""
    return _fetch_sum(x_GPM, place_GSK, weight_GSK)


def _fetch_outputs_forward(x_GPM, weight_GSK, place_GSK, choice_GP):
    y_GSM = fetch_outputs(x_GPM, weight_GSK, place_GSK, choice_GP)
    return y_GSM, (x_GPM, weight_GSK, place_GSK, choice_GP)


def _fetch_outputs_backward(residuals, dy_GSM):
    x_GPM, weight_GSK, place_GSK, choice_GP = residuals
    num_groups, _, num_choices = place_GSK.shape
    dy_GSM = dy_GSM.astype(jnp.float32)
    dweight_GSK = jnp.stack(
        [
            jnp.sum(_fetch(x_GPM, place_GSK[..., k]).astype(jnp.float32) * dy_GSM, axis=-1)
            for k in range(num_choices)
        ],
        axis=-1,
    )
    weight_GP = _fetch(weight_GSK.reshape(num_groups, -1, 1), choice_GP)
    dx_GPM = weight_GP * _fetch(dy_GSM, choice_GP // num_choices)
    return dx_GPM.astype(x_GPM.dtype), dweight_GSK, None, None


fetch_outputs.defvjp(_fetch_outputs_forward, _fetch_outputs_backward)
