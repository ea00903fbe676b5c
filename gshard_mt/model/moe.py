"""The Mixture-of-Experts feed-forward: GShard's Algorithm 2 with its sharding annotations."""
# SPDX-License-Identifier: Apache-2.0

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.depth import keep
from gshard_mt.model.feed_forward import FeedForward
from gshard_mt.model.layers import Sizes, contract, dropout, split_key, uniform_parameter
from gshard_mt.partitioning.all_to_all import change_owners
from gshard_mt.partitioning.annotate import map_shards, platform, shard
from gshard_mt.partitioning.collectives import (
    mesh_gather,
    mesh_index,
    mesh_sum,
    mesh_sum_scatter,
)
from gshard_mt.routing.balance import z_loss
from gshard_mt.routing.capacity import expert_capacity
from gshard_mt.routing.counters import Counters, count
from gshard_mt.routing.dispatch import DISPATCHES, DROPLESS, Dispatch, choose_dispatch
from gshard_mt.routing.dropless import sort_choices
from gshard_mt.routing.gathers import fetch_outputs, fetch_tokens
from gshard_mt.routing.gating import GATINGS
from gshard_mt.routing.grouped_product import grouped_product
from gshard_mt.routing.routing import Routing


class Tokens(NamedTuple):
    """What is known of the tokens beside their vectors."""

    id_BL: jax.Array  # subwords as the stack reads them
    is_token_BL: jax.Array  # False is padding
    pair_BL: jax.Array  # number of the language pair, for the counters


class RoutingSums(NamedTuple):
    """What is kept of a layer's routing."""

    aux_loss: jax.Array
    z_loss: jax.Array
    counters: Counters


class Groups(NamedTuple):
    """How the tokens of a batch compete for expert slots."""

    size: int  # S; 0: every row of the batch is its own group
    capacity_factor: float  # C = capacity_factor * S / E
    has_room_for_all: bool = False  # C = S, whatever the factor
    num_pairs: int = 1  # language pairs that are counted apart


def training_groups(config: ModelConfig, num_pairs: int = 1) -> Groups:
    """Groups of training (paper, section 2.2)."""
    return Groups(config.moe.group_size, config.moe.capacity_factor, num_pairs=num_pairs)


def evaluation_groups(config: ModelConfig) -> Groups:
    """Groups of the dev loss: as in training, with a capacity of their own."""
    return Groups(config.moe.group_size, config.moe.eval_capacity_factor)


def decoding_groups(config: ModelConfig) -> Groups:
    """Every sentence by itself, with room for all its tokens at every expert: nothing is dropped,
    and no sentence depends on what else is in the batch."""
    return Groups(0, config.moe.eval_capacity_factor, has_room_for_all=True)


def group_capacity(config: ModelConfig, groups: Groups, size: int) -> int:
    """Returns C for groups of `size` tokens."""
    if groups.has_room_for_all:
        return size
    moe = config.moe
    return expert_capacity(size, moe.num_experts, groups.capacity_factor, moe.min_capacity)


class MixtureOfExperts(nnx.Module):
    """E feed-forwards of which each token takes the few that its gate chooses."""

    def __init__(
        self,
        config: ModelConfig,
        sizes: Sizes,
        rngs: nnx.Rngs,
        gate: str,
        output_scale: float = 1.0,
    ):
        self.config, self.gate = config, gate
        for name, letters in self._gate_weights().items():
            scale = 0.0 if GATINGS[gate].starts_at_zero else 1.0
            setattr(self, name, uniform_parameter(rngs, letters, sizes, fan_in="M", scale=scale))
        self.wi_EMH = uniform_parameter(rngs, "EMH", sizes, fan_in="M")
        self.wo_EHM = uniform_parameter(rngs, "EHM", sizes, fan_in="H", scale=output_scale)
        if config.moe.shared_ffn_dim:
            sizes = sizes | {"H": config.moe.shared_ffn_dim}
            self.shared_expert = FeedForward(config, sizes, rngs, output_scale)

    def __call__(
        self, x_BLM: jax.Array, tokens: Tokens, groups: Groups, key: jax.Array | None
    ) -> tuple[jax.Array, RoutingSums]:
        """Returns the weighted sum of the chosen experts [B, L, M] and what is kept of the routing.

        A token whose choices are all dropped gets zeros: the residual carries it (section 2.2).
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        gate_key, dropout_key, shared_key = split_key(key, 3)
        size = groups.size or x_BLM.shape[1]
        x_GSM = shard(x_BLM.reshape(-1, size, x_BLM.shape[-1]), "GSM")
        tokens_GS = Tokens(*(shard(array.reshape(-1, size), "GS") for array in tokens))
        name = choose_dispatch(config.moe.dispatch, platform())
        if groups.has_room_for_all and GATINGS[self.gate].is_causal:
            name = DROPLESS  # slots for every token at every expert would be E times the work
        if name == DROPLESS:
            groups = groups._replace(has_room_for_all=True)
        routing, sums = self._route(x_GSM, tokens_GS, groups, gate_key)
        if name == DROPLESS:
            y_GSM = self._without_slots(x_GSM.astype(dtype), routing, dropout_key)
        else:
            capacity = group_capacity(config, groups, size)
            form = DISPATCHES[name]
            y_GSM = self._with_slots(x_GSM.astype(dtype), routing, capacity, form, dropout_key)
        y_BLM = shard(shard(y_GSM, "GSM").reshape(x_BLM.shape), "BLM")
        if config.moe.shared_ffn_dim:
            y_BLM += self.shared_expert(x_BLM, tokens, groups, shared_key)[0]
        return y_BLM, sums

    def _gate_weights(self) -> dict[str, str]:
        """Names and letters of the gate's parameters: `wg_ME` and one for each further product."""
        gating = GATINGS[self.gate]
        weights = {"wg_ME": "ME"} if gating.has_logits else {}
        for keyword, letters in gating.products.items():
            weights[f"w{keyword.rsplit('_', 1)[0]}_{letters}"] = letters
        return weights

    def _route(
        self, x_GSM: jax.Array, tokens_GS: Tokens, groups: Groups, key: jax.Array | None
    ) -> tuple[Routing, RoutingSums]:
        moe, gating = self.config.moe, GATINGS[self.gate]
        x_GSM, is_token_GS = x_GSM.astype(jnp.float32), tokens_GS.is_token_BL
        gate_key, jitter_key = split_key(key, 2)
        if moe.router_jitter and jitter_key is not None:
            low, high = 1.0 - moe.router_jitter, 1.0 + moe.router_jitter
            x_GSM *= jax.random.uniform(jitter_key, x_GSM.shape, jnp.float32, low, high)

        products = {
            name: jnp.einsum(
                f"GSM,{letters}->GS{letters[1]}",
                x_GSM,
                getattr(self, name)[...],
                precision="highest",
            )
            for name, letters in self._gate_weights().items()
        }
        no_logits_GSE = jnp.zeros((*is_token_GS.shape, moe.num_experts))
        logits_GSE = products.pop("wg_ME", no_logits_GSE)
        arguments: dict[str, Any] = dict(zip(gating.products, products.values(), strict=True))
        arguments |= {name: getattr(moe, name) for name in gating.options}
        if "capacity_factor" in arguments:
            arguments |= {"capacity_factor": groups.capacity_factor}
        if gating.needs_token_ids:
            arguments["token_id_GS"] = tokens_GS.id_BL
        capacity = group_capacity(self.config, groups, is_token_GS.shape[1])
        routing = gating.gate(logits_GSE, is_token_GS, capacity, gate_key, **arguments)
        counters = count(
            routing,
            logits_GSE if gating.has_logits else None,
            is_token_GS,
            tokens_GS.pair_BL,
            groups.num_pairs,
            moe.num_experts,
        )
        return routing, RoutingSums(routing.aux_loss, z_loss(logits_GSE, is_token_GS), counters)

    def _with_slots(self, x_GSM, routing: Routing, capacity: int, form: Dispatch, key) -> jax.Array:
        """Algorithm 2: every group has C slots at every expert, and two all-to-alls carry them."""
        moe = self.config.moe
        x_GECM = shard(form.dispatch(x_GSM, routing, moe.num_experts, capacity), "GECM")
        parts = []
        # With several chunks the experts work on one while another is under way.
        for chunk_GECM in jnp.array_split(x_GECM, min(moe.all_to_all_chunks, capacity), axis=2):
            x_EGCM = keep(change_owners(chunk_GECM, "GECM", moe.all_to_all_dtype))
            chunk_key = key if key is None else jax.random.fold_in(key, len(parts))
            y_EGCM = self._apply_experts(x_EGCM, chunk_key)
            parts.append(keep(change_owners(y_EGCM, "EGCM", moe.all_to_all_dtype)))
        y_GECM = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=2)
        return form.combine(y_GECM, routing)

    def _apply_experts(self, x_EGCM: jax.Array, key) -> jax.Array:
        """wo_e · ReLU(wi_e · x) for the slots of every group; S counts all slots of an expert.

        Batched matrix products of three axes: with groups and slots apart, XLA transposes on CPUs.
        """
        dtype = jnp.dtype(self.config.dtype)
        x_ESM = x_EGCM.reshape(x_EGCM.shape[0], -1, x_EGCM.shape[-1])
        h_ESH = jax.nn.relu(contract("ESM,EMH->ESH", x_ESM, self.wi_EMH[...], dtype))
        h_ESH = dropout(h_ESH, self.config.ffn_dropout_rate, key)
        return contract("ESH,EHM->ESM", h_ESH, self.wo_EHM[...], dtype).reshape(x_EGCM.shape)

    def _without_slots(self, x_GSM: jax.Array, routing: Routing, key) -> jax.Array:
        """Every choice is served: devices that share experts gather all their tokens, each has its
        own experts at them, and a reduce-scatter adds up and takes the sums home."""
        weights = (self.wi_EMH[...], self.wo_EHM[...])
        keys = () if key is None else (key,)
        run = map_shards(
            self._serve_all, ("GSM", "GSK", "GSK", "EMH", "EHM", *("" for _ in keys)), "GSM"
        )
        return run(x_GSM, routing.expert_GSK, routing.weight_GSK, *weights, *keys)

    def _serve_all(self, x_GSM, expert_GSK, weight_GSK, wi_EMH, wo_EHM, key=None):
        dtype = x_GSM.dtype
        num_experts = wi_EMH.shape[0]  # of this device
        x_NM, expert_NK, weight_NK = (
            keep(mesh_gather(array.reshape(-1, array.shape[-1]), "E"))
            for array in (x_GSM, expert_GSK, weight_GSK)
        )
        expert_NK = expert_NK - mesh_index("E") * num_experts
        place_NK, choice_F, size_E = sort_choices(expert_NK, weight_NK > 0, num_experts)
        tables = (place_NK[None], choice_F[None])
        x_FM = fetch_tokens(x_NM[None], *tables)[0]
        multiply = functools.partial(grouped_product, size_E=size_E, platform=platform())
        h_FH = jax.nn.relu(multiply(x_FM, wi_EMH.astype(dtype)).astype(dtype))
        if key is not None:
            key = jax.random.fold_in(key, mesh_index("EH"))
        h_FH = dropout(h_FH, self.config.ffn_dropout_rate, key)
        y_FM = multiply(h_FH, wo_EHM.astype(dtype))
        y_NM = fetch_outputs(y_FM[None], weight_NK[None], *tables)[0]
        y_NM = keep(mesh_sum_scatter(mesh_sum(y_NM, "H"), "E"))
        return y_NM.reshape(x_GSM.shape).astype(dtype)
