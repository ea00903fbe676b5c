"""Multi-head attention: over packed rows, over cached steps, and to an encoded source."""
# SPDX-License-Identifier: Apache-2.0

import math

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.cache import CacheView, attend_to_cache
from gshard_mt.model.layers import (
    MASKED,
    Keys,
    Sizes,
    contract,
    dropout,
    product,
    uniform_parameter,
)


def segment_mask(segment_BT: jax.Array, segment_BL: jax.Array) -> jax.Array:
    """[B, T, L] true where query and key belong to the same sentence (segment 0 is padding)."""
    is_same_BTL = segment_BT[:, :, None] == segment_BL[:, None, :]
    return is_same_BTL & (segment_BT != 0)[:, :, None]


def causal_mask(segment_BT: jax.Array) -> jax.Array:
    """[B, T, T] true where the key belongs to the query's sentence and is not after the query."""
    num_positions = segment_BT.shape[1]
    return segment_mask(segment_BT, segment_BT) & jnp.tri(num_positions, dtype=bool)


class Attention(nnx.Module):
    """Queries from one sequence, keys and values from the same or another; no biases."""

    def __init__(self, config: ModelConfig, sizes: Sizes, keys: Keys, output_scale: float = 1.0):
        self.dropout_rate, self.dtype = config.dropout_rate, jnp.dtype(config.dtype)
        self.wq_MND = uniform_parameter(keys, "MND", sizes, fan_in="M")
        self.wk_MND = uniform_parameter(keys, "MND", sizes, fan_in="M")
        self.wv_MND = uniform_parameter(keys, "MND", sizes, fan_in="M")
        self.wo_NDM = uniform_parameter(keys, "NDM", sizes, fan_in="ND", scale=output_scale)

    def __call__(self, x_BTM, memory_BLM, mask_BTL, key) -> jax.Array:
        """x_BTM attends to memory_BLM where the mask is true; returns [B, T, M].

        The weights are a float32 softmax; with a key they have dropout.
        """
        k_BNLD, v_BNLD = self.keys_and_values(memory_BLM)
        q_BTND = self._queries("BTM,MND->BTND", x_BTM)
        logits_BNTL = contract("BTND,BNLD->BNTL", q_BTND, k_BNLD, self.dtype).astype(jnp.float32)
        weight_BNTL = jax.nn.softmax(jnp.where(mask_BTL[:, None], logits_BNTL, MASKED), axis=-1)
        weight_BNTL = dropout(weight_BNTL, self.dropout_rate, key)
        y_BTND = contract("BNTL,BNLD->BTND", weight_BNTL, v_BNLD, self.dtype)
        return contract("BTND,NDM->BTM", y_BTND, self.wo_NDM[...], self.dtype)

    def keys_and_values(self, memory_BLM) -> tuple[jax.Array, jax.Array]:
        """Keys and values of the memory, [B, N, L, D] each."""
        k_BNLD = contract("BLM,MND->BNLD", memory_BLM, self.wk_MND[...], self.dtype)
        v_BNLD = contract("BLM,MND->BNLD", memory_BLM, self.wv_MND[...], self.dtype)
        return k_BNLD, v_BNLD

    def attend_cache(self, x_BWM, view: CacheView):
        """Each of W beams attends to its own earlier steps and to the current one.

        Returns [B, W, M] and the new keys and values, [B, N, W, D] each.
        """
        # The few activations are transposed here; "BNTD" would have XLA:CPU transpose the weights.
        new_kv = tuple(
            contract("BTM,MND->BTND", x_BWM, w_MND[...], self.dtype).swapaxes(1, 2)
            for w_MND in (self.wk_MND, self.wv_MND)
        )
        q_BNWD = self._queries("BTM,MND->BTND", x_BWM).swapaxes(1, 2)
        y_BNWD = attend_to_cache(q_BNWD, new_kv, view)
        y_BWND = y_BNWD.swapaxes(1, 2)
        return contract("BTND,NDM->BTM", y_BWND, self.wo_NDM[...], self.dtype), new_kv

    def attend_memory(self, x_BWM, memory_kv, is_token_BL) -> jax.Array:
        """W beams attend to keys [B, N, D, L] and values [B, N, L, D]; returns [B, W, M]."""
        k_BNDL, v_BNLD = memory_kv
        q_BNWD = self._queries("BTM,MND->BTND", x_BWM).swapaxes(1, 2)
        logits_BNWL = product("BNWD,BNDL->BNWL", q_BNWD, k_BNDL)
        logits_BNWL = jnp.where(is_token_BL[:, None, None], logits_BNWL, MASKED)
        weight_BNWL = jax.nn.softmax(logits_BNWL, axis=-1)
        y_BNWD = product("BNWL,BNLD->BNWD", weight_BNWL.astype(self.dtype), v_BNLD)
        return contract("BTND,NDM->BTM", y_BNWD.swapaxes(1, 2), self.wo_NDM[...], self.dtype)

    def _queries(self, spec: str, x_BTM) -> jax.Array:
        """Queries divided by the root of the head width, with their axes in the order of `spec`."""
        q = contract(spec, x_BTM, self.wq_MND[...], self.dtype)
        return q * jnp.asarray(1.0 / math.sqrt(q.shape[-1]), q.dtype)
