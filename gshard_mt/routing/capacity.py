"""The geometry of routing: the number of groups, and of slots per expert and group."""
# SPDX-License-Identifier: Apache-2.0

import math

from gshard_mt.errors import ConfigError


def expert_capacity(group_size: int, num_experts: int, factor: float, minimum: int = 1) -> int:
    """Returns C, the slots of one expert in one group: ceil(factor * S / E), from `minimum` to S.

    The paper's C = 2S/E (section 2.2) is factor 2.0, one slot for every choice of every token when
    the load is even. The minimum is for small groups, where an even share is at most one slot. More
    than S slots would never fill: a token chooses an expert once.
    """
    if factor <= 0:
        raise ConfigError(f"model.moe.capacity_factor = {factor}: must be more than 0")
    if minimum < 1:
        raise ConfigError(f"model.moe.min_capacity = {minimum}: must be 1 or more")
    # The tolerance keeps a product such as 1.1 * 100 / 10 from being rounded up to 12.
    share = math.ceil(factor * group_size / num_experts - 1e-9)
    return min(group_size, max(minimum, share))


def num_groups(num_tokens: int, group_size: int) -> int:
    """Returns G for `num_tokens` tokens (padding included), which S must divide."""
    if group_size < 1 or num_tokens % group_size:
        raise ConfigError(
            f"model.moe.group_size = {group_size}: does not divide the {num_tokens} tokens "
            "of a batch (rows times length, padding included)"
        )
    return num_tokens // group_size
