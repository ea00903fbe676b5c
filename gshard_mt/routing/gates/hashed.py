"""The gate that learns nothing: a fixed hash of the token's id names its expert."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.routing.routing import Routing, count_slots


def hashed(
    logits_GSE: jax.Array,
    is_token_GS: jax.Array,
    capacity: int,
    key: jax.Array | None,
    *,
    token_id_GS: jax.Array,
) -> Routing:
    """Hash layers (Roller et al. 2021, section 3.1, random hash): one expert, weight 1, no loss.

    Of the logits only E is used. Slots are taken in token order; padding takes none. `key` is not
    used. The hash is the same in every run, machine and layer.
    """
    del key
    num_experts = logits_GSE.shape[-1]
    hash_GS = mix(token_id_GS) % jnp.uint32(num_experts)
    expert_GSK = hash_GS.astype(jnp.int32)[..., None]
    is_wanted_GSK = is_token_GS[..., None]
    slot_GSK = count_slots(expert_GSK, is_wanted_GSK, num_experts)
    weight_GSK = (is_wanted_GSK & (slot_GSK < capacity)).astype(jnp.float32)
    return Routing(expert_GSK, slot_GSK, weight_GSK, is_wanted_GSK, jnp.zeros((), jnp.float32))


def mix(ids: jax.Array) -> jax.Array:
    """Returns uint32 hashes of int32 ids, one to one: the finalizer of MurmurHash3."""
    h = ids.astype(jnp.uint32)
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
