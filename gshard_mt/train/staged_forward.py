"""The forward pass of a dense model whose layers are divided into stages."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any

import jax
import jax.numpy as jnp

from gshard_mt.data.batches import Batch
from gshard_mt.model.moe import Tokens
from gshard_mt.model.pipeline import pipe_blocks
from gshard_mt.model.transformer import Layer, Transformer
from gshard_mt.train.accumulation import cut_batch

UNUSED: Any = None  # only experts need groups, and what else is known about tokens


def forward_in_stages(
    model: Transformer, batch: Batch, key: jax.Array | None, num_micro_batches: int
) -> jax.Array:
    """What the softmax reads [B, T, M] of a batch whose micro-batches are in the pipeline at once.

    They draw what they would draw one after another. Embeddings and softmax are every stage's.
    """
    parts = cut_batch(batch, num_micro_batches, 1)
    keys = None if key is None else jax.random.split(key, num_micro_batches)
    encoder_keys, decoder_keys = _halve(keys)
    (source_keys, encoder_keys), (target_keys, decoder_keys) = map(
        _halve, (encoder_keys, decoder_keys)
    )

    def tokens(segment_BL: jax.Array) -> Tokens:
        return Tokens(UNUSED, segment_BL, UNUSED, UNUSED)

    def encode(layer: Layer, x_BLM, key, segment_BL):
        return layer.encode(x_BLM, tokens(segment_BL), UNUSED, key)

    def decode(layer: Layer, x_BTM, key, memory_BLM, segment_BL, segment_BT):
        return layer.decode(x_BTM, memory_BLM, segment_BL, tokens(segment_BT), UNUSED, key)

    x = jax.vmap(model.embed_source)(parts.source_BL, parts.source_position_BL, source_keys)
    segments = (parts.source_segment_BL, parts.target_segment_BT)
    memory = model.encoder_norm(pipe_blocks(model.encoder, encode, x, segments[:1], encoder_keys))
    x = jax.vmap(model.embed_target)(parts.input_BT, parts.target_position_BT, target_keys)
    hidden = model.decoder_norm(
        pipe_blocks(model.decoder, decode, x, (memory, *segments), decoder_keys)
    )

    # `cut_batch` undone, row by row, so that every device keeps its own.
    return jnp.swapaxes(hidden, 0, 1).reshape(-1, *hidden.shape[2:])


def _halve(keys: jax.Array | None):
    return (None, None) if keys is None else jax.vmap(jax.random.split, out_axes=1)(keys)
