"""The dense feed-forward layer."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.layers import Keys, Sizes, contract, dropout, uniform_parameter


class FeedForward(nnx.Module):
    """wo · ReLU(wi · x), no biases."""

    def __init__(self, config: ModelConfig, sizes: Sizes, keys: Keys, output_scale: float = 1.0):
        self.dropout_rate, self.dtype = config.ffn_dropout_rate, jnp.dtype(config.dtype)
        self.wi_MH = uniform_parameter(keys, "MH", sizes, fan_in="M")
        self.wo_HM = uniform_parameter(keys, "HM", sizes, fan_in="H", scale=output_scale)

    def __call__(self, x_BLM: jax.Array, key: jax.Array | None) -> jax.Array:
        """Returns [B, L, M]; with a key the hidden units have dropout."""
        h_BLH = jax.nn.relu(contract("BLM,MH->BLH", x_BLM, self.wi_MH[...], self.dtype))
        h_BLH = dropout(h_BLH, self.dropout_rate, key)
        return contract("BLH,HM->BLM", h_BLH, self.wo_HM[...], self.dtype)
