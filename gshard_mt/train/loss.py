"""Cross-entropy with label smoothing, fused with the softmax's matrix, kept as sums over tokens."""
# SPDX-License-Identifier: Apache-2.0

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.partitioning.annotate import map_shards
from gshard_mt.partitioning.collectives import mesh_sum

MAX_CHUNK_TOKENS = 512  # logits of so many tokens exist at a time: on CPUs they stay in the cache


class TokenLoss(NamedTuple):
    """Sums in nats over real target tokens; divide by `num_tokens` to print."""

    nll: jax.Array
    smoothed: jax.Array  # what is minimised: nll against the smoothed labels
    num_tokens: jax.Array


class PairLoss(NamedTuple):
    """Sums over the real target tokens of each of X language pairs."""

    nll_X: jax.Array  # nats
    num_tokens_X: jax.Array


def cross_entropy(
    hidden_BTM: jax.Array,
    table_VM: jax.Array,
    label_BT: jax.Array,
    is_token_BT: jax.Array,
    label_smoothing: float,
    dtype: Any,
) -> TokenLoss:
    """Loss of the softmax over hidden · tableᵀ; a label has 1 - epsilon, all V share epsilon.

    Only `smoothed` has a gradient. It is worked out together with the value, chunk by chunk of
    tokens, so that the logits [B, T, V] never exist as a whole: half the time on a CPU, and on
    any machine less memory.
    """
    sums: Any = _sums(hidden_BTM, table_VM, label_BT, is_token_BT, label_smoothing, dtype)
    nll, smoothed = sums
    return TokenLoss(nll, smoothed, jnp.sum(is_token_BT.astype(jnp.float32)))


def pair_loss(
    hidden_BTM: jax.Array,
    table_VM: jax.Array,
    label_BT: jax.Array,
    is_token_BT: jax.Array,
    pair_BT: jax.Array,
    num_pairs: int,
    dtype: Any,
) -> PairLoss:
    """The nll of `cross_entropy` by language pair, without a gradient."""
    function = map_shards(functools.partial(_scan_nll, dtype), ("BTM", "VM", "BT"), "BT")
    nll_BT = function(hidden_BTM, table_VM, label_BT)
    is_pair_BTX = jax.nn.one_hot(pair_BT, num_pairs) * is_token_BT[..., None]
    nll_X = jnp.einsum("BT,BTX->X", nll_BT, is_pair_BTX, precision="highest")
    return PairLoss(nll_X, jnp.sum(is_pair_BTX, axis=(0, 1)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _sums(hidden_BTM, table_VM, label_BT, is_token_BT, label_smoothing, dtype):
    function = functools.partial(_scan_chunks, label_smoothing, dtype, False)
    return map_shards(function, ("BTM", "VM", "BT", "BT"), ("", ""))(
        hidden_BTM, table_VM, label_BT, is_token_BT
    )


def _sums_forward(hidden_BTM, table_VM, label_BT, is_token_BT, label_smoothing, dtype):
    function = functools.partial(_scan_chunks, label_smoothing, dtype, True)
    nll, smoothed, dhidden_BTM, dtable_VM = map_shards(
        function, ("BTM", "VM", "BT", "BT"), ("", "", "BTM", "VM")
    )(hidden_BTM, table_VM, label_BT, is_token_BT)
    return (nll, smoothed), (dhidden_BTM, dtable_VM)


def _sums_backward(label_smoothing, dtype, gradients, cotangents):
    _, dsmoothed = cotangents
    dhidden_BTM, dtable_VM = gradients
    return (dhidden_BTM * dsmoothed.astype(dhidden_BTM.dtype), dtable_VM * dsmoothed, None, None)


_sums.defvjp(_sums_forward, _sums_backward)


def _scan_chunks(
    label_smoothing, dtype, with_gradient, hidden_BTM, table_VM, label_BT, is_token_BT
):
    """The sums of one device's rows, added up over devices; I chunks of R tokens."""
    low_VM = table_VM.astype(dtype)
    function = functools.partial(_chunk, low_VM, label_smoothing, with_gradient)
    chunks = _cut(hidden_BTM.astype(dtype), label_BT, is_token_BT)
    zero = jnp.zeros((), jnp.float32)
    sums = (zero, zero, jnp.zeros(table_VM.shape[::-1] if with_gradient else (0,), jnp.float32))
    (nll, smoothed, dtable_MV), dhidden_IRM = jax.lax.scan(function, sums, chunks)
    nll, smoothed = mesh_sum(nll, "B"), mesh_sum(smoothed, "B")
    if not with_gradient:
        return nll, smoothed
    dhidden_BTM = jnp.asarray(dhidden_IRM, hidden_BTM.dtype).reshape(hidden_BTM.shape)
    return nll, smoothed, dhidden_BTM, mesh_sum(dtable_MV.T, "B")


def _scan_nll(dtype, hidden_BTM, table_VM, label_BT):
    """The nll of every label on one device, padding's too."""
    low_VM = table_VM.astype(dtype)
    hidden_IRM, label_IR = _cut(hidden_BTM.astype(dtype), label_BT)
    nll_IR = jax.lax.map(lambda chunk: _softmax(low_VM, *chunk).nll_R, (hidden_IRM, label_IR))
    return nll_IR.reshape(label_BT.shape)


def _cut(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Cuts arrays [B, T, ...] into chunks of tokens, [I, R, ...]."""
    num_tokens = arrays[0].shape[0] * arrays[0].shape[1]
    chunk = next(s for s in range(min(num_tokens, MAX_CHUNK_TOKENS), 0, -1) if num_tokens % s == 0)
    return tuple(array.reshape(-1, chunk, *array.shape[2:]) for array in arrays)


class _Softmax(NamedTuple):
    logits_RV: jax.Array
    exp_RV: jax.Array  # of the logits below the largest
    sum_R1: jax.Array
    log_z_R: jax.Array
    is_label_RV: jax.Array
    nll_R: jax.Array


def _softmax(table_VM: jax.Array, hidden_RM: jax.Array, label_R: jax.Array) -> _Softmax:
    logits_RV = jnp.einsum("RM,VM->RV", hidden_RM, table_VM, preferred_element_type=jnp.float32)
    largest_R1 = jnp.max(logits_RV, axis=-1, keepdims=True)
    exp_RV = jnp.exp(logits_RV - largest_R1)
    sum_R1 = jnp.sum(exp_RV, axis=-1, keepdims=True)
    log_z_R = (largest_R1 + jnp.log(sum_R1))[:, 0]
    is_label_RV = jnp.arange(table_VM.shape[0]) == label_R[:, None]
    nll_R = log_z_R - jnp.sum(jnp.where(is_label_RV, logits_RV, 0.0), axis=-1)
    return _Softmax(logits_RV, exp_RV, sum_R1, log_z_R, is_label_RV, nll_R)


def _chunk(table_VM, label_smoothing, with_gradient, sums, chunk):
    hidden_RM, label_R, is_token_R = chunk
    nll, smoothed, dtable_MV = sums
    vocab_size = table_VM.shape[0]
    logits_RV, exp_RV, sum_R1, log_z_R, is_label_RV, nll_R = _softmax(table_VM, hidden_RM, label_R)
    uniform_R = log_z_R - jnp.mean(logits_RV, axis=-1)
    smoothed_R = (1.0 - label_smoothing) * nll_R + label_smoothing * uniform_R
    nll += jnp.sum(jnp.where(is_token_R, nll_R, 0.0))
    smoothed += jnp.sum(jnp.where(is_token_R, smoothed_R, 0.0))
    if not with_gradient:
        return (nll, smoothed, dtable_MV), None
    weight_R1 = is_token_R.astype(jnp.float32)[:, None]
    target_RV = jnp.where(is_label_RV, 1.0 - label_smoothing, 0.0) + label_smoothing / vocab_size
    dlogits_RV = (exp_RV * (weight_R1 / sum_R1) - target_RV * weight_R1).astype(table_VM.dtype)
    dhidden_RM = jnp.einsum(
        "RV,VM->RM", dlogits_RV, table_VM, preferred_element_type=jnp.float32
    ).astype(hidden_RM.dtype)
    # As [M, V]: XLA:CPU transposes the first operand, and hidden is the smaller one.
    dtable_MV += jnp.einsum("RM,RV->MV", hidden_RM, dlogits_RV, preferred_element_type=jnp.float32)
    return (nll, smoothed, dtable_MV), dhidden_RM
