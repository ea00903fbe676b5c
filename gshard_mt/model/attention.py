"""Multi-head attention over packed rows, and over a cache of earlier positions."""
# SPDX-License-Identifier: Apache-2.0

import math

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.model.cache import View, attend_back
from gshard_mt.model.layers import MASKED, Sizes, contract, dropout, product, uniform_parameter


def segment_mask(segment_BT: jax.Array, segment_BL: jax.Array) -> jax.Array:
    """[B, T, L] true where query and key belong to the same sentence (segment 0 is padding)."""
    is_same_BTL = segment_BT[:, :, None] == segment_BL[:, None, :]
    return is_same_BTL & (segment_BT != 0)[:, :, None]


def causal_mask(segment_BT: jax.Array) -> jax.Array:
    """[B, T, T] true where the key is of the query's sentence and not after it."""
    num_positions = segment_BT.shape[1]
    return segment_mask(segment_BT, segment_BT) & jnp.tri(num_positions, dtype=bool)


class Attention(nnx.Module):
    """Queries from one sequence, keys and values from the same or another; no biases."""

    def __init__(self, sizes: Sizes, rngs: nnx.Rngs, output_scale: float = 1.0):
        self.wq_MND = uniform_parameter(rngs, "MND", sizes, fan_in="M")
        self.wk_MND = uniform_parameter(rngs, "MND", sizes, fan_in="M")
        self.wv_MND = uniform_parameter(rngs, "MND", sizes, fan_in="M")
        self.wo_NDM = uniform_parameter(rngs, "NDM", sizes, fan_in="ND", scale=output_scale)

    def __call__(self, x_BTM, memory_BLM, mask_BTL, key, dropout_rate, dtype) -> jax.Array:
        """x_BTM attends to memory_BLM where the mask is true; returns [B, T, M]."""
        k_BNLD, v_BNLD = self.keys_and_values(memory_BLM, dtype)
        return self.attend(x_BTM, k_BNLD, v_BNLD, mask_BTL, key, dropout_rate, dtype)

    def keys_and_values(self, memory_BLM, dtype) -> tuple[jax.Array, jax.Array]:
        """What attention needs of the memory, [B, N, L, D] each."""
        k_BNLD = contract("BLM,MND->BNLD", memory_BLM, self.wk_MND[...], dtype)
        v_BNLD = contract("BLM,MND->BNLD", memory_BLM, self.wv_MND[...], dtype)
        return k_BNLD, v_BNLD

    def attend_cache(self, x_BWM, view: View, number, dtype):
        """Attention of W beams to their earlier steps, of layer `number` in the cache, and to this.

        Returns [B, W, M] and the new keys and values.
        """
        new_kv = self.keys_and_values(x_BWM, dtype)
        q_BNWD = self._queries("BTM,MND->BNTD", x_BWM, dtype)
        y_BNWD = attend_back(q_BNWD, new_kv, view, number)
        return contract("BNTD,NDM->BTM", y_BNWD, self.wo_NDM[...], dtype), new_kv

    def attend_memory(self, x_BWM, memory_kv, mask_BWL, dtype) -> jax.Array:
        """What `attend` does, for W beams and keys [B, N, D, L] beside values [B, N, L, D]."""
        k_BNDL, v_BNLD = memory_kv
        q_BNWD = self._queries("BTM,MND->BNTD", x_BWM, dtype)
        logits_BNWL = product("BNWD,BNDL->BNWL", q_BNWD, k_BNDL)
        weight_BNWL = jax.nn.softmax(jnp.where(mask_BWL[:, None], logits_BNWL, MASKED), axis=-1)
        y_BNWD = product("BNWL,BNLD->BNWD", weight_BNWL.astype(dtype), v_BNLD)
        return contract("BNTD,NDM->BTM", y_BNWD, self.wo_NDM[...], dtype)

    def attend(self, x_BTM, k_BNLD, v_BNLD, mask_BTL, key, dropout_rate, dtype) -> jax.Array:
        """Attention to given keys and values; weights are a float32 softmax."""
        q_BTND = self._queries("BTM,MND->BTND", x_BTM, dtype)
        logits_BNTL = contract("BTND,BNLD->BNTL", q_BTND, k_BNLD, dtype).astype(jnp.float32)
        weight_BNTL = jax.nn.softmax(jnp.where(mask_BTL[:, None], logits_BNTL, MASKED), axis=-1)
        weight_BNTL = dropout(weight_BNTL, dropout_rate, key)
        y_BTND = contract("BNTL,BNLD->BTND", weight_BNTL, v_BNLD, dtype)
        return contract("BTND,NDM->BTM", y_BTND, self.wo_NDM[...], dtype)

    def _queries(self, spec: str, x_BTM, dtype) -> jax.Array:
        """Queries over the root of their width, in the order of axes that `spec` has."""
        q = contract(spec, x_BTM, self.wq_MND[...], dtype)
        return q * jnp.asarray(1.0 / math.sqrt(q.shape[-1]), q.dtype)
