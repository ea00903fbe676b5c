"""The encoder-decoder Transformer whose every other feed-forward is a Mixture of Experts."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.attention import Attention, causal_mask, segment_mask
from gshard_mt.model.cache import Cache, View, empty_cache, look_back
from gshard_mt.model.depth import scan_blocks, stack_blocks
from gshard_mt.model.feed_forward import FeedForward
from gshard_mt.model.layers import (
    Norm,
    Sizes,
    contract,
    dropout,
    position_encoding,
    split_key,
)
from gshard_mt.model.moe import Groups, MixtureOfExperts, Tokens
from gshard_mt.model.moe_checks import gate_of
from gshard_mt.partitioning.annotate import shard


class Memory(NamedTuple):
    """What the decoder sees of the source: keys and values of each layer of a block.

    Keys are [P, B, N, D, L], as the product with queries reads them, values [P, B, N, L, D].
    """

    keys_and_values: list[tuple[jax.Array, jax.Array]]
    is_token_BL: jax.Array


def queue_memories(memories: Sequence[Memory]) -> Memory:
    """Returns the memories of Q sentences of each row in one: B is followed by Q everywhere."""
    kv, *others = [each.keys_and_values for each in memories]
    return Memory(
        jax.tree.map(lambda *x_PB: jnp.stack(x_PB, axis=2), kv, *others),
        jnp.stack([each.is_token_BL for each in memories], axis=1),
    )


def take_memory(queue: Memory, turn_B: jax.Array) -> Memory:
    """Returns the memory of each row's sentence `turn_B`; past the last that of the last."""
    turn_B = jnp.minimum(turn_B, queue.is_token_BL.shape[1] - 1)

    def take(x_PBQ: jax.Array) -> jax.Array:
        index = turn_B[None, :, None, None, None, None]
        return jnp.take_along_axis(x_PBQ, index, axis=2)[:, :, 0]

    is_token_BL = jnp.take_along_axis(queue.is_token_BL, turn_B[:, None, None], axis=1)[:, 0]
    return Memory(jax.tree.map(take, queue.keys_and_values), is_token_BL)


class Layer(nnx.Module):
    """Pre-norm self-attention, cross-attention (decoder only) and a feed-forward."""

    def __init__(
        self,
        config: ModelConfig,
        sizes: Sizes,
        rngs: nnx.Rngs,
        *,
        gate: str,
        is_decoder: bool,
        output_scale: float,
    ):
        self.dropout_rate, self.dtype = config.dropout_rate, jnp.dtype(config.dtype)
        self.self_attention_norm = Norm(sizes)
        self.self_attention = Attention(sizes, rngs, output_scale)
        if is_decoder:
            self.cross_attention_norm = Norm(sizes)
            self.cross_attention = Attention(sizes, rngs, output_scale)
        self.feed_forward_norm = Norm(sizes)
        self.feed_forward = (
            MixtureOfExperts(config, sizes, rngs, gate, output_scale)
            if gate
            else FeedForward(config, sizes, rngs, output_scale)
        )

    def encode(self, x_BLM, segment_BL, tokens: Tokens, groups: Groups, key):
        """One encoder layer over packed rows; returns [B, L, M] and RoutingSums, None if dense."""
        keys = split_key(key, 4)
        mask_BLL = segment_mask(segment_BL, segment_BL)
        normed_BLM = self.self_attention_norm(x_BLM)
        y_BLM = self.self_attention(
            normed_BLM, normed_BLM, mask_BLL, keys[0], self.dropout_rate, self.dtype
        )
        x_BLM = x_BLM + dropout(y_BLM, self.dropout_rate, keys[1])
        return self._feed_forward(x_BLM, tokens, groups, keys[2], keys[3])

    def decode(self, x_BTM, memory_BLM, segments, tokens: Tokens, groups: Groups, key):
        """One decoder layer over packed rows, `segments` being those of source and target."""
        segment_BL, segment_BT = segments
        keys = split_key(key, 6)
        normed_BTM = self.self_attention_norm(x_BTM)
        y_BTM = self.self_attention(
            normed_BTM, normed_BTM, causal_mask(segment_BT), keys[0], self.dropout_rate, self.dtype
        )
        x_BTM = x_BTM + dropout(y_BTM, self.dropout_rate, keys[1])
        mask_BTL = segment_mask(segment_BT, segment_BL)
        y_BTM = self.cross_attention(
            self.cross_attention_norm(x_BTM),
            memory_BLM,
            mask_BTL,
            keys[2],
            self.dropout_rate,
            self.dtype,
        )
        x_BTM = x_BTM + dropout(y_BTM, self.dropout_rate, keys[3])
        return self._feed_forward(x_BTM, tokens, groups, keys[4], keys[5])

    def step(self, x_BWM, view: View, number, memory_kv, memory_mask_BWL, tokens, groups: Groups):
        """One decoder layer for the next target position of W beams a sentence.

        x is [B, W, M]: the beams stand where positions stand elsewhere. `number` is the layer's in
        the cache. Returns [B, W, M] and the new keys and values, [B, N, W, D] each.
        """
        normed_BWM = self.self_attention_norm(x_BWM)
        y_BWM, new_kv = self.self_attention.attend_cache(normed_BWM, view, number, self.dtype)
        x_BWM = x_BWM + y_BWM
        normed_BWM = self.cross_attention_norm(x_BWM)
        x_BWM = x_BWM + self.cross_attention.attend_memory(
            normed_BWM, memory_kv, memory_mask_BWL, self.dtype
        )
        x_BWM, _ = self._feed_forward(x_BWM, tokens, groups, None, None)
        return x_BWM, new_kv

    def _feed_forward(self, x_BLM, tokens: Tokens, groups, key, residual_key):
        normed_BLM = self.feed_forward_norm(x_BLM)
        if isinstance(self.feed_forward, FeedForward):
            y_BLM, sums = self.feed_forward(normed_BLM, key), None
        else:
            y_BLM, sums = self.feed_forward(normed_BLM, tokens, groups, key)
        return shard(x_BLM + dropout(y_BLM, self.dropout_rate, residual_key), "BLM"), sums


class Block(nnx.Module):
    """What a stack repeats: a layer with experts and a dense one, or one dense layer.

    Weights whose products are added to the residual stream are drawn narrower the deeper the stack
    is, by min(1, 2 / layers) (GPipe, section 5, divides those of feed-forwards by the layers).
    """

    def __init__(self, config: ModelConfig, sizes: Sizes, rngs: nnx.Rngs, *, is_decoder: bool):
        self.remat = config.remat
        gates = (gate_of(config, is_decoder), "") if config.moe.num_experts else ("",)
        num_layers = config.num_layers // 2  # of this stack
        self.layers = nnx.List(
            Layer(
                config,
                sizes,
                rngs,
                gate=gate,
                is_decoder=is_decoder,
                output_scale=min(1.0, 2.0 / num_layers),
            )
            for gate in gates
        )


class Transformer(nnx.Module):
    """Embeddings, an encoder stack, a decoder stack, a softmax over English subwords."""

    def __init__(self, config: ModelConfig, vocab_sizes: tuple[int, int], rngs: nnx.Rngs):
        self.config, self.dtype = config, jnp.dtype(config.dtype)
        source_size, target_size = vocab_sizes
        sizes = {
            "M": config.model_dim,
            "H": config.ffn_dim,
            "N": config.num_heads,
            "D": config.head_dim,
            "E": config.moe.num_experts,
            "A": config.moe.num_expert_groups,
        }
        num_blocks = config.num_layers // (4 if config.moe.num_experts else 2)

        def table(size: int) -> nnx.Param:
            value = jax.random.normal(rngs.params(), (size, config.model_dim), jnp.float32)
            return nnx.Param(value / math.sqrt(config.model_dim))

        self.target_embedding_VM = table(target_size)
        self.source_embedding_VM = None if config.tie_embeddings else table(source_size)
        self.softmax_VM = None if config.tie_softmax else table(target_size)
        self.encoder = stack_blocks(
            lambda rngs: Block(config, sizes, rngs, is_decoder=False), num_blocks, rngs
        )
        self.encoder_norm = Norm(sizes)
        self.decoder = stack_blocks(
            lambda rngs: Block(config, sizes, rngs, is_decoder=True), num_blocks, rngs
        )
        self.decoder_norm = Norm(sizes)

    def encode(self, source_BL, segment_BL, position_BL, groups, key=None, pair_BL=None):
        """Encodes packed rows; returns memory [B, L, M] and the layers' RoutingSums.

        `pair_BL` numbers the language pairs that `groups` counts apart.
        """
        key_in, key_stack = split_key(key, 2)
        x_BLM = self.embed_source(source_BL, position_BL, key_in)
        tokens = _describe(source_BL, segment_BL != 0, pair_BL)
        x_BLM, routings = scan_blocks(
            self.encoder,
            lambda layer, x, layer_key: layer.encode(x, segment_BL, tokens, groups, layer_key),
            x_BLM,
            key_stack,
        )
        return self.encoder_norm(x_BLM), routings

    def decode(
        self,
        memory_BLM,
        segment_BL,
        input_BT,
        segment_BT,
        position_BT,
        groups,
        key=None,
        pair_BT=None,
    ):
        """Decodes packed rows given all earlier tokens; returns hidden [B, T, M], routing sums.

        Position t sees inputs up to t of its own sentence, and that sentence's memory.
        """
        key_in, key_stack = split_key(key, 2)
        x_BTM = self.embed_target(input_BT, position_BT, key_in)
        segments = (segment_BL, segment_BT)
        tokens = _describe(input_BT, segment_BT != 0, pair_BT)
        x_BTM, routings = scan_blocks(
            self.decoder,
            lambda layer, x, layer_key: layer.decode(
                x, memory_BLM, segments, tokens, groups, layer_key
            ),
            x_BTM,
            key_stack,
        )
        return self.decoder_norm(x_BTM), routings

    def logits(self, hidden_BTM: jax.Array) -> jax.Array:
        """Float32 scores [B, T, V] of every English subword."""
        logits_BTV = contract("BTM,VM->BTV", hidden_BTM, self.softmax_table(), self.dtype)
        return logits_BTV.astype(jnp.float32)

    def softmax_table(self) -> jax.Array:
        """The softmax weights [V, M]: the target embedding, unless the config unties them."""
        table_VM = self.target_embedding_VM if self.softmax_VM is None else self.softmax_VM
        return table_VM[...]

    def remember(self, memory_BLM: jax.Array, is_token_BL: jax.Array) -> Memory:
        """Every decoder layer's keys and values of the memory, computed once a sentence."""

        def project(layer: Layer, x, _):
            k_BNLD, v_BNLD = layer.cross_attention.keys_and_values(memory_BLM, self.dtype)
            return x, (k_BNLD.swapaxes(2, 3), v_BNLD)

        _, keys_and_values = scan_blocks(self.decoder, project, None, None)
        return Memory(keys_and_values, is_token_BL)

    def empty_cache(self, num_rows: int, num_beams: int, num_positions: int) -> Cache:
        """Room for `num_positions` target positions of every beam."""
        wk_PMND = self.decoder.layers[0].self_attention.wk_MND[...]
        num_blocks, _, num_heads, head_dim = wk_PMND.shape
        shape = (num_blocks * len(self.decoder.layers), num_rows, num_heads, head_dim)
        return empty_cache(shape, num_beams, num_positions, self.dtype)

    def step(self, token_BW, position_B, cache: Cache, memory: Memory, groups: Groups):
        """Feeds token_BW at `position_B`; returns hidden [B, W, M] of the next one and the cache.

        A row sees its last `position_B` steps, fewer than the cache has room for.
        """
        position_BW = jnp.broadcast_to(position_B[:, None], token_BW.shape)
        x_BWM = self.embed_target(token_BW, position_BW, None)
        tokens = _describe(token_BW, jnp.ones(token_BW.shape, bool), None)
        view = look_back(cache, position_B)
        memory_mask_BWL = jnp.repeat(memory.is_token_BL[:, None, :], token_BW.shape[1], axis=1)

        def apply(layer: Layer, x_BWM, _, number, memory_kv):
            return layer.step(x_BWM, view, number, memory_kv, memory_mask_BWL, tokens, groups)

        num_layers, per_block = cache.v_PIBNLD.shape[0], len(self.decoder.layers)
        numbers = [jnp.arange(start, num_layers, per_block) for start in range(per_block)]
        x_BWM, new_kv = scan_blocks(
            self.decoder, apply, x_BWM, None, numbers, memory.keys_and_values
        )
        k_PBNWD, v_PBNWD = (
            jnp.stack(layers, axis=1).reshape(num_layers, *layers[0].shape[1:])
            for layers in zip(*new_kv, strict=True)
        )
        return self.decoder_norm(x_BWM), cache.write(k_PBNWD, v_PBNWD)

    def embed_source(self, source_BL, position_BL, key) -> jax.Array:
        """What the encoder reads: [B, L, M]."""
        embedding = self.source_embedding_VM
        table_VM = (self.target_embedding_VM if embedding is None else embedding)[...]
        return self._embed(table_VM, source_BL, position_BL, key)

    def embed_target(self, input_BT, position_BT, key) -> jax.Array:
        """What the decoder reads: [B, T, M]."""
        return self._embed(self.target_embedding_VM[...], input_BT, position_BT, key)

    def _embed(self, table_VM, token_BL, position_BL, key) -> jax.Array:
        model_dim = table_VM.shape[1]
        x_BLM = table_VM[token_BL] * math.sqrt(model_dim)
        x_BLM = x_BLM + position_encoding(position_BL, model_dim)
        return shard(dropout(x_BLM, self.config.dropout_rate, key), "BLM")


def _describe(id_BL, is_token_BL, pair_BL) -> Tokens:
    return Tokens(id_BL, is_token_BL, jnp.zeros_like(id_BL) if pair_BL is None else pair_BL)
