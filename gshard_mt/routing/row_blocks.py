"""The rows of each expert cut into blocks, whatever the sizes."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RowBlocks(NamedTuple):
    """Rows that are multiplied together: blocks of one expert each, in the order of rows."""

    num: jax.Array
    expert_I: jax.Array  # I: blocks, as many as there can be; those past `num` have no rows
    start_I: jax.Array
    end_I: jax.Array  # end of the expert's rows, which a block may exceed


def cut_rows(size_E: jax.Array, num_rows: int, block: int, num_done: int = 0) -> RowBlocks:
    """Cuts the rows of each expert into blocks, without its first `num_done`."""
    end_E = jnp.cumsum(size_E)
    size_E = jnp.maximum(size_E - num_done, 0)
    blocks_E = -(-size_E // block)
    last_E = jnp.cumsum(blocks_E)
    index_I = jnp.arange(num_rows // block + size_E.size, dtype=jnp.int32)
    expert_I = jnp.searchsorted(last_E, index_I, side="right").astype(jnp.int32)
    expert_I = jnp.minimum(expert_I, size_E.size - 1)
    rank_I = index_I - (last_E - blocks_E)[expert_I]
    start_I = (end_E - size_E)[expert_I] + rank_I * block
    return RowBlocks(last_E[-1], expert_I, start_I, end_E[expert_I])
