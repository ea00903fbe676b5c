"""What a training step costs by the model's sizes alone, whatever program runs it."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.records import Config
from gshard_mt.model.blueprint import Blueprint
from gshard_mt.model.moe_checks import gate_of
from gshard_mt.routing.gating import GATINGS


def step_flops(config: Config, blueprint: Blueprint) -> float:
    """Returns the FLOPs of a training step's matrix products, of all devices: three forward passes.

    Every position counts, padding too, and every expert that a gate may choose. Slots that stay
    empty don't, nor what dispatch or rematerialisation adds: this is the numerator of MFU.
    """
    model = config.model
    width = model.num_heads * model.head_dim
    num_layers = model.num_layers // 2
    num_source, num_target = (
        config.train.batch_rows * length
        for length in (config.data.source_length, config.data.target_length)
    )
    projection = 2 * model.model_dim * width  # of one token
    # Queries with keys, and weights with values.
    own_source = 4 * config.data.source_length * width
    own_target = 4 * config.data.target_length * width
    encoder = num_source * (4 * projection + own_source)
    decoder = num_target * (6 * projection + own_target + own_source)
    decoder += num_source * 2 * projection  # keys and values of the memory
    feed_forward = 4 * model.model_dim * model.ffn_dim
    softmax = num_target * 2 * model.model_dim * blueprint.vocab_sizes[1]
    forward = num_layers * (encoder + decoder) + softmax
    for num_tokens, is_decoder in ((num_source, False), (num_target, True)):
        if not model.moe.num_experts:
            forward += num_layers * num_tokens * feed_forward
            continue
        sparse = _experts_of_a_token(config, is_decoder) * feed_forward
        sparse += 2 * model.model_dim * model.moe.num_experts  # the gate
        sparse += 4 * model.model_dim * model.moe.shared_ffn_dim
        forward += num_layers // 2 * num_tokens * (feed_forward + sparse)
    return 3.0 * forward


def _experts_of_a_token(config: Config, is_decoder: bool) -> int:
    moe = config.model.moe
    gating = GATINGS[gate_of(config.model, is_decoder)]
    return gating.max_experts(moe.num_choices, moe.num_experts, moe.num_expert_groups)
