"""The Mixture-of-Experts feed-forward: GShard's Algorithm 2 with its sharding annotations."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.depth import keep
from gshard_mt.model.exchange import apply_experts
from gshard_mt.model.feed_forward import FeedForward
from gshard_mt.model.layers import Keys, Sizes, contract, dropout, split_key, uniform_parameter
from gshard_mt.model.pruning import gate_product
from gshard_mt.model.quantized import Quantized, letters_in, quantize
from gshard_mt.partitioning.all_to_all import expert_all_to_all
from gshard_mt.partitioning.annotate import map_shards, platform, shard
from gshard_mt.partitioning.axes import letters_of
from gshard_mt.partitioning.collectives import mesh_sum
from gshard_mt.routing.balance import z_loss
from gshard_mt.routing.capacity import expert_capacity
from gshard_mt.routing.counters import Counters, count
from gshard_mt.routing.dispatch import DISPATCHES, Dispatch, choose_dispatch
from gshard_mt.routing.dropless import sort_choices
from gshard_mt.routing.gathers import permute_tokens, unpermute_outputs
from gshard_mt.routing.gating import GATES
from gshard_mt.routing.grouped_product import grouped_product
from gshard_mt.routing.routing import GateInputs, Routing
from gshard_mt.routing.strategies import DROPLESS, STRATEGIES


class Tokens(NamedTuple):
    """The tokens of one side of a batch of packed rows."""

    id_BL: jax.Array  # subword ids
    segment_BL: jax.Array  # number of the sentence in its row, from 1; 0 is padding
    position_BL: jax.Array  # in the sentence
    pair_BL: jax.Array  # number of the language pair, for the counters


class RoutingSums(NamedTuple):
    """What is kept of a layer's routing."""

    aux_loss: jax.Array
    z_loss: jax.Array
    counters: Counters


class Groups(NamedTuple):
    """How the tokens of a batch compete for expert slots, and how the counters group them."""

    size: int | None  # S; None: every row of the batch is its own group
    capacity_factor: float  # C = capacity_factor * S / E
    no_drop: bool = False  # C = S, whatever the factor
    num_pairs: int = 1  # X of the counters


def training_groups(config: ModelConfig, num_pairs: int = 1) -> Groups:
    """Groups for training (paper, section 2.2), counted by language pair."""
    return Groups(config.moe.group_size, config.moe.capacity_factor, num_pairs=num_pairs)


def evaluation_groups(config: ModelConfig) -> Groups:
    """Groups for the dev loss: as in training, with their own capacity factor."""
    return Groups(config.moe.group_size, config.moe.eval_capacity_factor)


def decoding_groups(config: ModelConfig) -> Groups:
    """Every sentence is its own group and nothing is dropped.

    So a translation does not depend on the rest of the batch.
    """
    return Groups(None, config.moe.eval_capacity_factor, no_drop=True)


def group_capacity(config: ModelConfig, groups: Groups, size: int) -> int:
    """Returns C for groups of `size` tokens."""
    if groups.no_drop:
        return size
    moe = config.moe
    return expert_capacity(size, moe.num_experts, groups.capacity_factor, moe.min_capacity)


class MixtureOfExperts(nnx.Module):
    """E feed-forwards, of which each token passes through the few that its gate chooses."""

    def __init__(
        self,
        config: ModelConfig,
        sizes: Sizes,
        keys: Keys,
        gate: str,
        output_scale: float = 1.0,
    ):
        self.config, self.gate = config, gate
        strategy = STRATEGIES[gate]
        scale = 0.0 if strategy.starts_at_zero else 1.0
        for name in strategy.products.values():
            weight = uniform_parameter(keys, letters_of(name), sizes, fan_in="M", scale=scale)
            setattr(self, name, weight)
        self.wi_EMH = uniform_parameter(keys, "EMH", sizes, fan_in="M")
        self.wo_EHM = uniform_parameter(keys, "EHM", sizes, fan_in="H", scale=output_scale)
        if config.moe.shared_ffn_dim:
            sizes = sizes | {"H": config.moe.shared_ffn_dim}
            self.shared_expert = FeedForward(config, sizes, keys, output_scale)

    def __call__(
        self, x_BLM: jax.Array, tokens: Tokens, groups: Groups, key: jax.Array | None
    ) -> tuple[jax.Array, RoutingSums]:
        """Returns the weighted sum of the chosen experts [B, L, M] and the sums of the routing.

        A token whose choices are all dropped gets zeros: the residual carries it (section 2.2).
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        gate_key, dropout_key, shared_key = split_key(key, 3)
        size = groups.size or x_BLM.shape[1]
        x_GSM = shard(x_BLM.reshape(-1, size, x_BLM.shape[-1]), "GSM")
        tokens_GS = Tokens(*(shard(array.reshape(-1, size), "GS") for array in tokens))
        form = choose_dispatch(config.moe.dispatch, platform())
        if groups.no_drop and STRATEGIES[self.gate].is_causal:
            form = DROPLESS  # slots for every token at every expert would be E times the work
        if form == DROPLESS:
            groups = groups._replace(no_drop=True)
        capacity = group_capacity(config, groups, size)
        routing, sums = self._route(x_GSM, tokens_GS, groups, capacity, gate_key)
        if form == DROPLESS:
            y_GSM = self._dropless(x_GSM.astype(dtype), routing, dropout_key)
        else:
            dispatch = DISPATCHES[form]
            y_GSM = self._with_slots(x_GSM.astype(dtype), routing, capacity, dispatch, dropout_key)
        y_BLM = shard(shard(y_GSM, "GSM").reshape(x_BLM.shape), "BLM")
        if config.moe.shared_ffn_dim:
            y_BLM += self.shared_expert(x_BLM, shared_key)
        return y_BLM, sums

    @jax.named_scope("dispatch")
    def _route(
        self, x_GSM: jax.Array, tokens_GS: Tokens, groups: Groups, capacity: int, key
    ) -> tuple[Routing, RoutingSums]:
        """Calls the gate with the products and options that its strategy lists."""
        strategy = STRATEGIES[self.gate]
        moe = dataclasses.replace(self.config.moe, capacity_factor=groups.capacity_factor)
        x_GSM, is_token_GS = x_GSM.astype(jnp.float32), tokens_GS.segment_BL != 0
        gate_key, jitter_key = split_key(key, 2)
        if moe.router_jitter and jitter_key is not None:
            low, high = 1.0 - moe.router_jitter, 1.0 + moe.router_jitter
            x_GSM *= jax.random.uniform(jitter_key, x_GSM.shape, jnp.float32, low, high)
        products = {
            argument: gate_product(x_GSM, getattr(self, weight)[...])
            for argument, weight in strategy.products.items()
        }
        no_logits_GSE = jnp.zeros((*is_token_GS.shape, moe.num_experts))
        logits_GSE = products.pop("logits_GSE", no_logits_GSE)
        options = {name: getattr(moe, name) for name in strategy.options}
        inputs = GateInputs(logits_GSE, is_token_GS, tokens_GS.id_BL, capacity, gate_key)
        routing = GATES[self.gate](inputs, **products, **options)
        counters = count(
            routing,
            logits_GSE if strategy.has_logits else None,
            is_token_GS,
            tokens_GS.pair_BL,
            groups.num_pairs,
            moe.num_experts,
        )
        return routing, RoutingSums(routing.aux_loss, z_loss(logits_GSE, is_token_GS), counters)

    def _with_slots(self, x_GSM, routing: Routing, capacity: int, form: Dispatch, key) -> jax.Array:
        """Algorithm 2: each group has C slots at every expert, exchanged by two all-to-alls."""
        moe = self.config.moe
        with jax.named_scope("dispatch"):
            x_GECM = shard(form.dispatch(x_GSM, routing, moe.num_experts, capacity), "GECM")
        chunks = []
        # With several chunks the experts can work on one while another is in transit.
        for chunk_GECM in jnp.array_split(x_GECM, min(moe.all_to_all_chunks, capacity), axis=2):
            x_EGCM = keep(expert_all_to_all(chunk_GECM, "GECM", moe.all_to_all_dtype))
            chunk_key = key if key is None else jax.random.fold_in(key, len(chunks))
            y_EGCM = self._apply_experts(x_EGCM, chunk_key)
            chunks.append(keep(expert_all_to_all(y_EGCM, "EGCM", moe.all_to_all_dtype)))
        y_GECM = chunks[0] if len(chunks) == 1 else jnp.concatenate(chunks, axis=2)
        with jax.named_scope("dispatch"):
            return form.combine(y_GECM, routing)

    @jax.named_scope("experts")
    def _apply_experts(self, x_EGCM: jax.Array, key) -> jax.Array:
        """wo_e · ReLU(wi_e · x) for the slots of every group; R counts all slots of an expert.

        Batched matrix products of three axes: with groups and slots apart, XLA:CPU transposes.
        """
        dtype = jnp.dtype(self.config.dtype)
        x_ERM = x_EGCM.reshape(x_EGCM.shape[0], -1, x_EGCM.shape[-1])
        h_ERH = jax.nn.relu(contract("ERM,EMH->ERH", x_ERM, self.wi_EMH[...], dtype))
        h_ERH = dropout(h_ERH, self.config.ffn_dropout_rate, key)
        return contract("ERH,EHM->ERM", h_ERH, self.wo_EHM[...], dtype).reshape(x_EGCM.shape)

    def _dropless(self, x_GSM: jax.Array, routing: Routing, key) -> jax.Array:
        """Serves every choice, on the device that has its expert."""
        weights = (self.wi_EMH[...], self.wo_EHM[...])
        keys = () if key is None else (key,)
        split = [letters_in(w, letters) for w, letters in zip(weights, ("EMH", "EHM"), strict=True)]
        letters = ("GSM", "GSK", "GSK", *split, *("" for _ in keys))
        run = map_shards(self._dropless_experts, letters, "GSM")
        return run(x_GSM, routing.expert_GSK, routing.weight_GSK, *weights, *keys)

    @jax.named_scope("dispatch")
    def _dropless_experts(self, x_GSM, expert_GSK, weight_GSK, wi_EMH, wo_EHM, key=None):
        x_SM, expert_SK, weight_SK = (
            array.reshape(-1, array.shape[-1]) for array in (x_GSM, expert_GSK, weight_GSK)
        )
        weights = (wi_EMH, wo_EHM)
        y_SM = apply_experts(self._own_experts, x_SM, expert_SK, weight_SK, weights, key)
        return keep(mesh_sum(y_SM, "H")).reshape(x_GSM.shape).astype(x_GSM.dtype)

    def _own_experts(self, x_SM, expert_SK, weight_SK, weights, key) -> jax.Array:
        """Each token's weighted sum over those of its experts that are here; float32 [S, M]."""
        wi_EMH, wo_EHM = weights
        row_SK, choice_R, size_E = sort_choices(expert_SK, weight_SK > 0, wi_EMH.shape[0])
        tables = (row_SK[None], choice_R[None])
        x_RM = permute_tokens(x_SM[None], *tables)[0]
        h_RH = jax.nn.relu(_multiply(x_RM, wi_EMH, size_E).astype(x_SM.dtype))
        h_RH = dropout(h_RH, self.config.ffn_dropout_rate, key)
        y_RM = _multiply(h_RH, wo_EHM, size_E)
        return unpermute_outputs(y_RM[None], weight_SK[None], *tables)[0]


@jax.named_scope("experts")
def _multiply(x_RM: jax.Array, w_EMH: jax.Array | Quantized, size_E: jax.Array) -> jax.Array:
    """Rows times the matrix of their expert, in the type of the rows or, if quantized, in int8."""
    if not isinstance(w_EMH, Quantized):
        return grouped_product(x_RM, w_EMH.astype(x_RM.dtype), size_E, platform())
    values_RM, scale_R = quantize(x_RM, (1,))
    y_RH = grouped_product(values_RM, w_EMH.values, size_E, platform(), w_EMH.scale)
    return y_RH * scale_R[:, None]
