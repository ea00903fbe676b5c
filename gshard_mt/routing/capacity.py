"""The capacity: the number of slots per expert and group."""
# SPDX-License-Identifier: Apache-2.0

import math


def expert_capacity(group_size: int, num_experts: int, factor: float, minimum: int = 1) -> int:
    """Returns C, the slots of one expert in one group: ceil(factor * S / E), from `minimum` to S.

    The paper's C = 2S/E (section 2.2) is factor 2.0, one slot for every choice of every token when
    the load is even. The minimum is for small groups, where an even share is at most one slot. More
    than S slots would never fill: a token chooses an expert once.
    """
    # The tolerance keeps a product such as 1.1 * 100 / 10 from being rounded up to 12.
    share = math.ceil(factor * group_size / num_experts - 1e-9)
    return min(group_size, max(minimum, share))
