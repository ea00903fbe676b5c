"""The Mixture-of-Experts feed-forward: GShard's Algorithm 2 with its sharding annotations."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.config import ModelConfig
from gshard_mt.model.layers import Sizes, contract, dropout, split_key, uniform_parameter
from gshard_mt.partitioning.annotate import shard
from gshard_mt.routing.capacity import expert_capacity
from gshard_mt.routing.dispatch import DISPATCHES
from gshard_mt.routing.gating import GATINGS, Counters


class RoutingSums(NamedTuple):
    """What is kept of a layer's routing."""

    aux_loss: jax.Array
    counters: Counters


class Groups(NamedTuple):
    """How the tokens of a batch compete for expert slots."""

    size: int  # S; 0: every row of the batch is its own group
    capacity_factor: float  # C = capacity_factor * S / E


def training_groups(config: ModelConfig) -> Groups:
    """Groups of training and of dev evaluation alike (paper, section 2.2)."""
    return Groups(config.group_size, config.capacity_factor)


def decoding_groups(config: ModelConfig) -> Groups:
    """Every sentence by itself, with room for all its tokens at every expert: nothing is dropped,
    and no sentence depends on what else is in the batch."""
    return Groups(0, float(config.num_experts))


class MixtureOfExperts(nnx.Module):
    """E feed-forwards of which each token takes the few that its gate chooses."""

    def __init__(self, config: ModelConfig, sizes: Sizes, rngs: nnx.Rngs):
        self.config = config
        self.wg_ME = uniform_parameter(rngs, "ME", sizes, fan_in="M")
        self.wi_EMH = uniform_parameter(rngs, "EMH", sizes, fan_in="M")
        self.wo_EHM = uniform_parameter(rngs, "EHM", sizes, fan_in="H")

    def __call__(self, x_BLM, is_token_BL, groups: Groups, key) -> tuple[jax.Array, RoutingSums]:
        """Returns the weighted sum of the chosen experts [B, L, M] and what is kept of the routing.

        A token whose choices are all dropped gets zeros: the residual carries it (section 2.2).
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        size = groups.size or x_BLM.shape[1]
        x_GSM = shard(x_BLM.reshape(-1, size, x_BLM.shape[-1]), "GSM")
        is_token_GS = shard(is_token_BL.reshape(-1, size), "GS")
        gate_key, dropout_key = split_key(key, 2)
        capacity = expert_capacity(size, config.num_experts, groups.capacity_factor)
        logits_GSE = jnp.einsum(
            "GSM,ME->GSE", x_GSM.astype(jnp.float32), self.wg_ME[...], precision="highest"
        )
        routing = GATINGS[config.gate](logits_GSE, is_token_GS, capacity, gate_key)
        dispatch, combine = DISPATCHES[config.dispatch]
        x_GECM = dispatch(x_GSM.astype(dtype), routing, config.num_experts, capacity)
        # The two all-to-alls of the paper: groups own the expert axis of the mesh before and
        # after, experts own it in between. Annotated on both sides of each transposition,
        # without which XLA gathers an expert weight instead.
        x_EGCM = shard(jnp.swapaxes(shard(x_GECM, "GECM"), 0, 1), "EGCM")
        y_EGCM = self._apply_experts(x_EGCM, dropout_key, dtype)
        y_GECM = shard(jnp.swapaxes(shard(y_EGCM, "EGCM"), 0, 1), "GECM")
        y_GSM = shard(combine(y_GECM, routing), "GSM")
        y_BLM = shard(y_GSM.reshape(x_BLM.shape), "BLM")
        return y_BLM, RoutingSums(routing.aux_loss, routing.counters)

    def _apply_experts(self, x_EGCM: jax.Array, key, dtype) -> jax.Array:
        """wo_e · ReLU(wi_e · x) for the slots of every group; S counts all slots of an expert.

        Batched matrix products of three axes: with groups and slots apart, XLA transposes on CPUs.
        """
        x_ESM = x_EGCM.reshape(x_EGCM.shape[0], -1, x_EGCM.shape[-1])
        h_ESH = jax.nn.relu(contract("ESM,EMH->ESH", x_ESM, self.wi_EMH[...], dtype))
        h_ESH = dropout(h_ESH, self.config.expert_dropout_rate, key)
        return contract("ESH,EHM->ESM", h_ESH, self.wo_EHM[...], dtype).reshape(x_EGCM.shape)
