"""Multi-head attention: over packed rows, over cached steps, and to an encoded source."""
# SPDX-License-Identifier: Apache-2.0

import math
from typing import NamedTuple

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
from gshard_mt.partitioning.annotate import platform

BLOCK = 256  # queries of a block; shorter sequences are one


class Segments(NamedTuple):
    """Which keys a query sees: those of its own sentence, with `is_causal` up to its own place."""

    query_BT: jax.Array  # numbers of sentences; 0 is padding, which sees nothing
    key_BL: jax.Array
    is_causal: bool = False

    def mask(self, start: jax.typing.ArrayLike = 0) -> jax.Array:
        """[B, T, L] true where a query sees a key, if the first query has the place `start`."""
        (_, num_queries), (_, num_keys) = self.query_BT.shape, self.key_BL.shape
        mask_BTL = self.query_BT[:, :, None] == self.key_BL[:, None, :]
        mask_BTL &= (self.query_BT != 0)[:, :, None]
        if self.is_causal:
            mask_BTL &= start + jnp.arange(num_queries)[:, None] >= jnp.arange(num_keys)
        return mask_BTL


class Attention(nnx.Module):
    """Queries from one sequence, keys and values from the same or another; no biases."""

    def __init__(self, config: ModelConfig, sizes: Sizes, keys: Keys, output_scale: float = 1.0):
        self.dropout_rate, self.dtype = config.dropout_rate, jnp.dtype(config.dtype)
        self.wq_MND = uniform_parameter(keys, "MND", sizes, fan_in="M")
        self.wk_MND = uniform_parameter(keys, "MND", sizes, fan_in="M")
        self.wv_MND = uniform_parameter(keys, "MND", sizes, fan_in="M")
        self.wo_NDM = uniform_parameter(keys, "NDM", sizes, fan_in="ND", scale=output_scale)

    def __call__(self, x_BTM, memory_BLM, segments: Segments, key) -> jax.Array:
        """x_BTM attends to memory_BLM as its segments say; returns [B, T, M].

        The weights are a float32 softmax; with a key they have dropout. Of sequences with more than
        `BLOCK` queries, blocks attend one after the other, and the backward pass computes a block's
        weights again: there are never all of them, [B, N, T, L]. Not on TPUs, whose compiler fails.
        """
        k_BNLD, v_BNLD = self.keys_and_values(memory_BLM)
        q_BTND = self._queries("BTM,MND->BTND", x_BTM)
        num_blocks = -(-q_BTND.shape[1] // BLOCK)
        if num_blocks == 1 or platform() == "tpu":
            y_BTND = self._attend(q_BTND, k_BNLD, v_BNLD, segments.mask(), key)
        else:
            y_BTND = self._attend_in_blocks(q_BTND, (k_BNLD, v_BNLD), segments, key, num_blocks)
        return contract("BTND,NDM->BTM", y_BTND, self.wo_NDM[...], self.dtype)

    def _attend_in_blocks(
        self,
        q_BTND,
        kv: tuple[jax.Array, jax.Array],
        segments: Segments,
        key,
        num_blocks: int,
    ) -> jax.Array:
        num_queries = q_BTND.shape[1]
        block = -(-num_queries // num_blocks)

        def cut(x_BT):
            padding = [(0, 0), (0, block * num_blocks - num_queries), *[(0, 0)] * (x_BT.ndim - 2)]
            x_BIT = jnp.pad(x_BT, padding).reshape(len(x_BT), num_blocks, block, *x_BT.shape[2:])
            return x_BIT.swapaxes(0, 1)

        @jax.checkpoint
        def attend(part):
            start, part_BTND, part_BT = part
            part_key = None if key is None else jax.random.fold_in(key, start)
            mask_BTL = segments._replace(query_BT=part_BT).mask(start)
            return self._attend(part_BTND, *kv, mask_BTL, part_key)

        parts = (block * jnp.arange(num_blocks), cut(q_BTND), cut(segments.query_BT))
        y_BITND = jax.lax.map(attend, parts).swapaxes(0, 1)
        return y_BITND.reshape(len(q_BTND), -1, *q_BTND.shape[2:])[:, :num_queries]

    def _attend(self, q_BTND, k_BNLD, v_BNLD, mask_BTL, key) -> jax.Array:
        logits_BNTL = contract("BTND,BNLD->BNTL", q_BTND, k_BNLD, self.dtype).astype(jnp.float32)
        weight_BNTL = jax.nn.softmax(jnp.where(mask_BTL[:, None], logits_BNTL, MASKED), axis=-1)
        weight_BNTL = dropout(weight_BNTL, self.dropout_rate, key)
        return contract("BNTL,BNLD->BTND", weight_BNTL, v_BNLD, self.dtype)

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
