"""The forward pass of a dense model whose layers are divided into stages."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.data.batches import Batch
from gshard_mt.model.moe import Groups, Tokens
from gshard_mt.model.pipeline import pipe_blocks
from gshard_mt.model.transformer import Layer, Transformer
from gshard_mt.train.accumulation import cut_batch


def forward_in_stages(
    model: Transformer, batch: Batch, groups: Groups, key: jax.Array | None, num_micro_batches: int
) -> jax.Array:
    """Returns the decoder's output [B, T, M]; the micro-batches are in the pipeline concurrently.

    They draw the same random numbers as in sequence. Every stage holds the embeddings.
    """
    parts = cut_batch(batch, num_micro_batches, 1)
    keys = None if key is None else jax.random.split(key, num_micro_batches)
    encoder_keys, decoder_keys = _halve(keys)
    (source_keys, encoder_keys), (target_keys, decoder_keys) = map(
        _halve, (encoder_keys, decoder_keys)
    )

    def tokens(segment_BL: jax.Array) -> Tokens:  # only experts read the other fields
        return Tokens(segment_BL, segment_BL, segment_BL, segment_BL)

    def encode(layer: Layer, x_BLM, key, segment_BL):
        return layer.encode(x_BLM, tokens(segment_BL), groups, key)

    def decode(layer: Layer, x_BTM, key, memory_BLM, segment_BL, segment_BT):
        return layer.decode(x_BTM, memory_BLM, segment_BL, tokens(segment_BT), groups, key)

    x = jax.vmap(model.embed_source)(parts.source_BL, parts.source_position_BL, source_keys)
    segments = (parts.source_segment_BL, parts.target_segment_BT)
    memory = model.encoder_norm(pipe_blocks(model.encoder, encode, x, segments[:1], encoder_keys))
    x = jax.vmap(model.embed_target)(parts.input_BT, parts.target_position_BT, target_keys)
    hidden = model.decoder_norm(
        pipe_blocks(model.decoder, decode, x, (memory, *segments), decoder_keys)
    )

    # Undo `cut_batch` row by row, so that every device keeps its rows.
    return jnp.swapaxes(hidden, 0, 1).reshape(-1, *hidden.shape[2:])


def _halve(keys: jax.Array | None):
    return (None, None) if keys is None else jax.vmap(jax.random.split, out_axes=1)(keys)
