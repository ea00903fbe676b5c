"""The gate that learns nothing: a fixed hash of the subword id chooses the expert."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.routing.routing import GateInputs, Routing, assign_slots


def hashed(inputs: GateInputs) -> Routing:
    """Hash layers (Roller et al. 2021, section 3.1, random hash): one expert, weight 1, no loss.

    Only the number of logits is used, and no key. Slots are assigned in token order. The hash is
    the same in every run, on every machine and in every layer.
    """
    hash_GS = mix(inputs.token_id_GS) % jnp.uint32(inputs.logits_GSE.shape[-1])
    expert_GSK = hash_GS.astype(jnp.int32)[..., None]
    weight_GSK = jnp.ones(expert_GSK.shape, jnp.float32)
    return assign_slots(inputs, expert_GSK, weight_GSK, jnp.zeros((), jnp.float32))


def mix(ids: jax.Array) -> jax.Array:
    """Returns uint32 hashes of int32 ids, a bijection: the finalizer of MurmurHash3."""
    h = ids.astype(jnp.uint32)
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
