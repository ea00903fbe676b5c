"""FLOPs of a training step, from the sizes of the model alone."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.records import Config
from gshard_mt.model.blueprint import Blueprint, experts_per_token


def step_flops(config: Config, blueprint: Blueprint) -> float:
    """Returns the FLOPs of a step's matrix products on all devices: three forward passes.

    Every position counts, padding included, and every expert that a gate may choose. Empty slots
    do not count, nor does what dispatch or rematerialization adds: this is the numerator of MFU.
    """
    model = config.model
    width = model.num_heads * model.head_dim
    num_source, num_target = (
        config.train.batch_rows * length
        for length in (config.data.source_length, config.data.target_length)
    )
    projection = 2 * model.model_dim * width  # per token
    # Queries with keys, and weights with values, per token.
    source_attention = 4 * config.data.source_length * width
    target_attention = 4 * config.data.target_length * width
    encoder = num_source * (4 * projection + source_attention)
    decoder = num_target * (6 * projection + target_attention + source_attention)
    decoder += num_source * 2 * projection  # keys and values of the memory
    feed_forward = 4 * model.model_dim * model.ffn_dim
    softmax = num_target * 2 * model.model_dim * blueprint.vocab_sizes[1]
    forward = softmax
    for num_tokens, attention, is_decoder in (
        (num_source, encoder, False),
        (num_target, decoder, True),
    ):
        num_layers = model.layers_of(is_decoder)
        forward += num_layers * attention
        if not model.moe.num_experts:
            forward += num_layers * num_tokens * feed_forward
            continue
        sparse = experts_per_token(model, is_decoder) * feed_forward
        sparse += 2 * model.model_dim * model.moe.num_experts  # the gate
        sparse += 4 * model.model_dim * model.moe.shared_ffn_dim
        forward += num_layers // 2 * num_tokens * (feed_forward + sparse)
    return 3.0 * forward
