"""Cross-entropy with label smoothing, fused with the softmax matrix, kept as sums over tokens."""
# SPDX-License-Identifier: Apache-2.0

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.partitioning.annotate import map_shards
from gshard_mt.partitioning.collectives import mesh_sum

MAX_CHUNK_TOKENS = 512  # whose logits exist at a time: on CPUs they stay in the cache


class Predictions(NamedTuple):
    """The inputs of the softmax and the labels it is compared with."""

    hidden_BTM: jax.Array
    table_VM: jax.Array
    label_BT: jax.Array
    is_token_BT: jax.Array  # false for padding, which has no loss


class TokenLoss(NamedTuple):
    """Sums in nats over real target tokens; divide by `num_tokens` to print."""

    nll: jax.Array
    smoothed: jax.Array  # what is minimized: cross-entropy with the smoothed labels
    num_tokens: jax.Array


class PairLoss(NamedTuple):
    """Sums over the real target tokens of each of X language pairs."""

    nll_X: jax.Array  # nats
    num_tokens_X: jax.Array


def cross_entropy(predictions: Predictions, label_smoothing: float, dtype: Any) -> TokenLoss:
    """Loss of softmax(hidden · tableᵀ) for labels (1 - epsilon) one-hot + epsilon / V.

    Only `smoothed` has a gradient. It is computed together with the value, chunk by chunk of
    tokens, so that the logits [B, T, V] never exist as a whole: half the time on a CPU, and less
    memory on any machine.
    """
    sums: Any = _sums(predictions, label_smoothing, dtype)
    nll, smoothed = sums
    return TokenLoss(nll, smoothed, jnp.sum(predictions.is_token_BT.astype(jnp.float32)))


def pair_loss(predictions: Predictions, pair_BT: jax.Array, num_pairs: int, dtype: Any) -> PairLoss:
    """The nll of `cross_entropy` by language pair, without a gradient."""
    hidden_BTM, table_VM, label_BT, is_token_BT = predictions
    function = map_shards(functools.partial(_scan_nll, dtype), ("BTM", "VM", "BT"), "BT")
    nll_BT = function(hidden_BTM, table_VM, label_BT)
    is_pair_BTX = jax.nn.one_hot(pair_BT, num_pairs) * is_token_BT[..., None]
    nll_X = jnp.einsum("BT,BTX->X", nll_BT, is_pair_BTX, precision="highest")
    return PairLoss(nll_X, jnp.sum(is_pair_BTX, axis=(0, 1)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _sums(predictions, label_smoothing, dtype):
    return _map_chunks(predictions, label_smoothing, dtype, False)


def _sums_forward(predictions, label_smoothing, dtype):
    *sums, dhidden_BTM, dtable_VM = _map_chunks(predictions, label_smoothing, dtype, True)
    return tuple(sums), (dhidden_BTM, dtable_VM)


def _sums_backward(label_smoothing, dtype, gradients, cotangents):
    _, dsmoothed = cotangents
    dhidden_BTM, dtable_VM = gradients
    dhidden_BTM = dhidden_BTM * dsmoothed.astype(dhidden_BTM.dtype)
    return (Predictions(dhidden_BTM, dtable_VM * dsmoothed, None, None),)  # type: ignore[arg-type]


_sums.defvjp(_sums_forward, _sums_backward)


def _map_chunks(predictions, label_smoothing, dtype, with_gradient):
    """The sums of nll and smoothed loss, and with them the gradients of hidden and table."""
    function = functools.partial(_scan_chunks, label_smoothing, dtype, with_gradient)
    outputs = ("", "", "BTM", "VM") if with_gradient else ("", "")
    return map_shards(function, ("BTM", "VM", "BT", "BT"), outputs)(*predictions)


def _scan_chunks(label_smoothing, dtype, with_gradient, *shards):
    """The sums of one device's rows, added up over devices; I chunks of R tokens."""
    hidden_BTM, table_VM, label_BT, is_token_BT = shards
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
    """The nll of every label on one device, padding included."""
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
