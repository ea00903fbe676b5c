"""The encoder-decoder Transformer whose every other feed-forward is a Mixture of Experts."""
# SPDX-License-Identifier: Apache-2.0

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.attention import Attention, Segments
from gshard_mt.model.cache import Cache, CacheView, empty_cache, visible_steps
from gshard_mt.model.depth import scan_blocks, stack_blocks
from gshard_mt.model.feed_forward import FeedForward
from gshard_mt.model.layers import (
    Keys,
    Norm,
    Sizes,
    contract,
    dropout,
    position_encoding,
    split_key,
)
from gshard_mt.model.moe import Groups, MixtureOfExperts, Tokens
from gshard_mt.partitioning.annotate import shard


class EncodedSource(NamedTuple):
    """What the decoder reads of the source: cross-attention keys and values, by layer of a block.

    Keys are [P, B, N, D, L], as the product with queries needs them, values [P, B, N, L, D].
    """

    keys_and_values: list[tuple[jax.Array, jax.Array]]
    is_token_BL: jax.Array


def stack_encodings(encodings: Sequence[EncodedSource]) -> EncodedSource:
    """Stacks the encodings of Q sentences per row: axis B is followed by Q everywhere."""
    kv, *others = [each.keys_and_values for each in encodings]
    return EncodedSource(
        jax.tree.map(lambda *x_PB: jnp.stack(x_PB, axis=2), kv, *others),
        jnp.stack([each.is_token_BL for each in encodings], axis=1),
    )


def select_encoding(stacked: EncodedSource, sentence_B: jax.Array) -> EncodedSource:
    """Returns the encoding of each row's sentence `sentence_B`; past the last one, the last."""
    sentence_B = jnp.minimum(sentence_B, stacked.is_token_BL.shape[1] - 1)

    def select(x_PBQ: jax.Array) -> jax.Array:
        index = sentence_B[None, :, None, None, None, None]
        return jnp.take_along_axis(x_PBQ, index, axis=2, mode="promise_in_bounds")[:, :, 0]

    is_token_BL = jnp.take_along_axis(stacked.is_token_BL, sentence_B[:, None, None], axis=1)[:, 0]
    return EncodedSource(jax.tree.map(select, stacked.keys_and_values), is_token_BL)


class Layer(nnx.Module):
    """Pre-norm self-attention, cross-attention (decoder only) and a feed-forward.

    Weights whose product is added to the residual stream start smaller in deeper stacks, by
    min(1, 2 / layers) (GPipe, section 5, divides those of feed-forwards by the number of layers).
    """

    def __init__(
        self,
        config: ModelConfig,
        sizes: Sizes,
        keys: Keys,
        *,
        is_sparse: bool,
        is_decoder: bool,
    ):
        self.dropout_rate = config.dropout_rate
        scale = min(1.0, 2.0 / config.layers_of(is_decoder))
        self.self_attention_norm = Norm(sizes)
        self.self_attention = Attention(config, sizes, keys, scale)
        if is_decoder:
            self.cross_attention_norm = Norm(sizes)
            self.cross_attention = Attention(config, sizes, keys, scale)
        self.feed_forward_norm = Norm(sizes)
        self.feed_forward = (
            MixtureOfExperts(config, sizes, keys, config.moe.gate_of(is_decoder), scale)
            if is_sparse
            else FeedForward(config, sizes, keys, scale)
        )

    def encode(self, x_BLM, tokens: Tokens, groups: Groups, key):
        """One encoder layer over packed rows; returns [B, L, M] and RoutingSums, None if dense."""
        keys = split_key(key, 4)
        segments = Segments(tokens.segment_BL, tokens.segment_BL)
        normed_BLM = self.self_attention_norm(x_BLM)
        with jax.named_scope("attention"):
            y_BLM = self.self_attention(normed_BLM, normed_BLM, segments, keys[0])
        x_BLM = x_BLM + dropout(y_BLM, self.dropout_rate, keys[1])
        return self._feed_forward(x_BLM, tokens, groups, keys[2:])

    def decode(self, x_BTM, memory_BLM, memory_segment_BL, tokens: Tokens, groups: Groups, key):
        """One decoder layer over packed rows; returns [B, T, M] and RoutingSums, None if dense."""
        keys, segment_BT = split_key(key, 6), tokens.segment_BL
        normed_BTM = self.self_attention_norm(x_BTM)
        segments = Segments(segment_BT, segment_BT, is_causal=True)
        with jax.named_scope("attention"):
            y_BTM = self.self_attention(normed_BTM, normed_BTM, segments, keys[0])
        x_BTM = x_BTM + dropout(y_BTM, self.dropout_rate, keys[1])
        segments = Segments(segment_BT, memory_segment_BL)
        normed_BTM = self.cross_attention_norm(x_BTM)
        with jax.named_scope("attention"):
            y_BTM = self.cross_attention(normed_BTM, memory_BLM, segments, keys[2])
        x_BTM = x_BTM + dropout(y_BTM, self.dropout_rate, keys[3])
        return self._feed_forward(x_BTM, tokens, groups, keys[4:])

    def step(self, x_BWM, view: CacheView, source_kv, is_source_BL, tokens: Tokens, groups: Groups):
        """One decoder layer at the next target position of W beams per sentence.

        Beams take the axis of positions: x is [B, W, M], and W tokens of a row are routed together.
        Returns [B, W, M] and the new keys and values, [B, N, W, D] each.
        """
        y_BWM, new_kv = self.self_attention.attend_cache(self.self_attention_norm(x_BWM), view)
        x_BWM = x_BWM + y_BWM
        normed_BWM = self.cross_attention_norm(x_BWM)
        x_BWM = x_BWM + self.cross_attention.attend_memory(normed_BWM, source_kv, is_source_BL)
        return self._feed_forward(x_BWM, tokens, groups, (None, None))[0], new_kv

    def _feed_forward(self, x_BLM, tokens: Tokens, groups: Groups, keys):
        key, residual_key = keys
        normed_BLM = self.feed_forward_norm(x_BLM)
        if isinstance(self.feed_forward, FeedForward):
            y_BLM, sums = self.feed_forward(normed_BLM, key), None
        else:
            y_BLM, sums = self.feed_forward(normed_BLM, tokens, groups, key)
        return shard(x_BLM + dropout(y_BLM, self.dropout_rate, residual_key), "BLM"), sums


class Block(nnx.Module):
    """The unit a stack repeats: a layer with experts and a dense one, or one dense layer."""

    def __init__(self, config: ModelConfig, sizes: Sizes, keys: Keys, *, is_decoder: bool):
        self.remat = config.remat
        self.layers = nnx.List(
            Layer(config, sizes, keys, is_sparse=is_sparse, is_decoder=is_decoder)
            for is_sparse in ((True, False) if config.moe.num_experts else (False,))
        )


class Transformer(nnx.Module):
    """Embeddings, an encoder stack, a decoder stack, a softmax over English subwords."""

    def __init__(self, config: ModelConfig, vocab_sizes: tuple[int, int], keys: Keys):
        self.config, self.dtype = config, jnp.dtype(config.dtype)
        sizes = {
            "M": config.model_dim,
            "H": config.ffn_dim,
            "N": config.num_heads,
            "D": config.head_dim,
            "E": config.moe.num_experts,
            "A": config.moe.num_expert_groups,
        }

        def table(size: int) -> nnx.Param:
            value = jax.random.normal(next(keys), (size, config.model_dim), jnp.float32)
            return nnx.Param(value / math.sqrt(config.model_dim))

        def stack(is_decoder: bool) -> Block:
            num_blocks = config.layers_of(is_decoder) // (2 if config.moe.num_experts else 1)
            make = functools.partial(Block, config, sizes, is_decoder=is_decoder)
            return stack_blocks(make, num_blocks, next(keys))

        source_size, target_size = vocab_sizes
        self.target_embedding_VM = table(target_size)
        self.source_embedding_VM = None if config.tie_embeddings else table(source_size)
        self.softmax_VM = None if config.tie_softmax else table(target_size)
        self.encoder, self.encoder_norm = stack(is_decoder=False), Norm(sizes)
        self.decoder, self.decoder_norm = stack(is_decoder=True), Norm(sizes)

    def encode(self, tokens: Tokens, groups: Groups, key=None):
        """Encodes packed rows; returns memory [B, L, M] and the RoutingSums of each block layer."""
        key_in, key_stack = split_key(key, 2)
        x_BLM = self.embed_source(tokens.id_BL, tokens.position_BL, key_in)
        x_BLM, sums = scan_blocks(
            self.encoder,
            lambda layer, x_BLM, layer_key: layer.encode(x_BLM, tokens, groups, layer_key),
            x_BLM,
            key_stack,
        )
        return self.encoder_norm(x_BLM), sums

    def decode(self, memory_BLM, memory_segment_BL, tokens: Tokens, groups: Groups, key=None):
        """Decodes packed rows given all earlier tokens; returns hidden [B, T, M], RoutingSums.

        Position t sees inputs up to t of its own sentence, and that sentence's memory.
        """
        key_in, key_stack = split_key(key, 2)
        x_BTM = self.embed_target(tokens.id_BL, tokens.position_BL, key_in)
        x_BTM, sums = scan_blocks(
            self.decoder,
            lambda layer, x_BTM, layer_key: layer.decode(
                x_BTM, memory_BLM, memory_segment_BL, tokens, groups, layer_key
            ),
            x_BTM,
            key_stack,
        )
        return self.decoder_norm(x_BTM), sums

    def logits(self, hidden_BTM: jax.Array) -> jax.Array:
        """Float32 logits [B, T, V] over English subwords."""
        logits_BTV = contract("BTM,VM->BTV", hidden_BTM, self.softmax_table(), self.dtype)
        return logits_BTV.astype(jnp.float32)

    def softmax_table(self) -> jax.Array:
        """The softmax weights [V, M]: the target embedding, unless the config unties them."""
        table_VM = self.target_embedding_VM if self.softmax_VM is None else self.softmax_VM
        return table_VM[...]

    def cross_attention_kv(self, memory_BLM: jax.Array, is_token_BL: jax.Array) -> EncodedSource:
        """Every decoder layer's keys and values of the memory, computed once per sentence."""

        def project(layer: Layer, x, _):
            k_BNLD, v_BNLD = layer.cross_attention.keys_and_values(memory_BLM)
            return x, (k_BNLD.swapaxes(2, 3), v_BNLD)

        return EncodedSource(scan_blocks(self.decoder, project, None, None)[1], is_token_BL)

    def empty_cache(self, num_rows: int, num_beams: int, num_positions: int) -> Cache:
        """A cache for `num_positions` target positions of every beam."""
        wk_PMND = self.decoder.layers[0].self_attention.wk_MND[...]
        num_blocks, _, num_heads, head_dim = wk_PMND.shape
        shape = (num_blocks * len(self.decoder.layers), num_rows, num_heads, head_dim)
        return empty_cache(shape, num_beams, num_positions, self.dtype)

    def step(self, token_BW, position_B, cache: Cache, source: EncodedSource, groups: Groups):
        """Feeds token_BW at `position_B`; returns the hidden states [B, W, M] and the new cache.

        A row sees its last `position_B` steps, which must be fewer than the cache can hold.
        """
        position_BW = jnp.broadcast_to(position_B[:, None], token_BW.shape)
        x_BWM = self.embed_target(token_BW, position_BW, None)
        one_BW = jnp.ones_like(token_BW)
        tokens = Tokens(token_BW, one_BW, position_BW, 0 * one_BW)
        visible = visible_steps(cache, position_B)

        def apply(layer: Layer, x_BWM, _, index, source_kv):
            view = CacheView(cache, index, *visible)
            return layer.step(x_BWM, view, source_kv, source.is_token_BL, tokens, groups)

        num_layers, per_block = cache.v_PIBNLD.shape[0], len(self.decoder.layers)
        indices = [jnp.arange(first, num_layers, per_block) for first in range(per_block)]
        x_BWM, new_kv = scan_blocks(
            self.decoder, apply, x_BWM, None, indices, source.keys_and_values
        )
        k_PBNWD, v_PBNWD = (
            jnp.stack(layers, axis=1).reshape(num_layers, *layers[0].shape[1:])
            for layers in zip(*new_kv, strict=True)
        )
        return self.decoder_norm(x_BWM), cache.write(k_PBNWD, v_PBNWD)

    def embed_source(self, id_BL, position_BL, key) -> jax.Array:
        """The encoder's input [B, L, M]; with a key it has dropout."""
        embedding = self.source_embedding_VM
        table_VM = (self.target_embedding_VM if embedding is None else embedding)[...]
        return self._embed(table_VM, id_BL, position_BL, key)

    def embed_target(self, id_BT, position_BT, key) -> jax.Array:
        """The decoder's input [B, T, M]; with a key it has dropout."""
        return self._embed(self.target_embedding_VM[...], id_BT, position_BT, key)

    def _embed(self, table_VM, id_BL, position_BL, key) -> jax.Array:
        model_dim = table_VM.shape[1]
        x_BLM = table_VM[id_BL] * math.sqrt(model_dim) + position_encoding(position_BL, model_dim)
        return shard(dropout(x_BLM, self.config.dropout_rate, key), "BLM")
