"""Gathers from tokens to the rows that experts read, and back as weighted sums."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

# A row is an expert slot, or a choice in the order of experts. Two tables that are each other's
# inverse: `row_GSK` is the row of each choice, R if it has none; `choice_GR` is the choice
# s * K + k in each row, S * K if it is empty. An index past the end reads zeros. With both tables
# every gradient is a gather too, where JAX's own rule would scatter-add floats.


def _gather(x: jax.Array, index: jax.Array) -> jax.Array:
    """Returns the rows of x [G, :, M] at the index [G, :], zeros for an index past the end."""
    return jax.vmap(lambda x, index: x.at[index].get(mode="fill", fill_value=0))(x, index)


def _gather_sum(x_GRM: jax.Array, row_GSK: jax.Array, weight_GSK: jax.Array) -> jax.Array:
    """Returns each token's weighted sum over its K rows, added up in float32."""
    sum_GSM = jnp.zeros((), jnp.float32)
    for k in range(row_GSK.shape[-1]):
        x_GSM = _gather(x_GRM, row_GSK[..., k]).astype(jnp.float32)
        sum_GSM = sum_GSM + weight_GSK[..., k, None] * x_GSM
    return sum_GSM.astype(x_GRM.dtype)


@jax.custom_vjp
def permute_tokens(x_GSM: jax.Array, row_GSK: jax.Array, choice_GR: jax.Array) -> jax.Array:
    """Returns the token of every row [G, R, M], zeros in empty rows."""
    return _gather(x_GSM, choice_GR // row_GSK.shape[-1])


def _permute_forward(x_GSM, row_GSK, choice_GR):
    return permute_tokens(x_GSM, row_GSK, choice_GR), row_GSK


def _permute_backward(row_GSK, dx_GRM):
    return _gather_sum(dx_GRM, row_GSK, jnp.ones(row_GSK.shape)), None, None


permute_tokens.defvjp(_permute_forward, _permute_backward)


@jax.custom_vjp
def unpermute_outputs(
    x_GRM: jax.Array, weight_GSK: jax.Array, row_GSK: jax.Array, choice_GR: jax.Array
) -> jax.Array:
    """Returns each token's weighted sum over its K rows [G, S, M], added up in float32."""
    return _gather_sum(x_GRM, row_GSK, weight_GSK)


def _unpermute_forward(x_GRM, weight_GSK, row_GSK, choice_GR):
    y_GSM = unpermute_outputs(x_GRM, weight_GSK, row_GSK, choice_GR)
    return y_GSM, (x_GRM, weight_GSK, row_GSK, choice_GR)


def _unpermute_backward(residuals, dy_GSM):
    x_GRM, weight_GSK, row_GSK, choice_GR = residuals
    num_groups, _, num_choices = row_GSK.shape
    dy_GSM = dy_GSM.astype(jnp.float32)
    dweights = [
        jnp.sum(_gather(x_GRM, row_GSK[..., k]).astype(jnp.float32) * dy_GSM, axis=-1)
        for k in range(num_choices)
    ]
    weight_GR1 = _gather(weight_GSK.reshape(num_groups, -1, 1), choice_GR)
    dx_GRM = weight_GR1 * _gather(dy_GSM, choice_GR // num_choices)
    return dx_GRM.astype(x_GRM.dtype), jnp.stack(dweights, axis=-1), None, None


unpermute_outputs.defvjp(_unpermute_forward, _unpermute_backward)
