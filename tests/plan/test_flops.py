"""The arithmetic of traced programs, kernels included."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import pytest

from gshard_mt.plan.flops import count_flops
from gshard_mt.routing import megablox_product, triton_product


@pytest.mark.parametrize("module", [megablox_product, triton_product])
def test_products_in_kernels_count_as_if_all_rows_were_in_use(module):
    rows, experts, model_dim, ffn_dim = 512, 8, 256, 384
    x_RM = jax.ShapeDtypeStruct((rows, model_dim), jnp.bfloat16)
    w_EMH = jax.ShapeDtypeStruct((experts, model_dim, ffn_dim), jnp.bfloat16)
    size_E = jax.ShapeDtypeStruct((experts,), jnp.int32)

    def run(x_RM, w_EMH, size_E):
        y_RH, pull_back = jax.vjp(lambda x, w: module.multiply(x, w, size_E), x_RM, w_EMH)
        return pull_back(y_RH)

    jaxpr = jax.make_jaxpr(run)(x_RM, w_EMH, size_E).jaxpr
    assert count_flops(jaxpr) == 3 * 2 * rows * model_dim * ffn_dim
