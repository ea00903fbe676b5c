"""Products, dropout, norm and attention against their plain formulas."""
# SPDX-License-Identifier: Apache-2.0

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model import attention
from gshard_mt.model.attention import Attention, Segments
from gshard_mt.model.layers import (
    Norm,
    contract,
    dropout,
    key_stream,
    position_encoding,
    split_key,
)

SIZES = {"B": 2, "L": 5, "T": 3, "M": 6, "H": 7, "N": 2, "D": 4, "E": 3, "G": 2, "C": 4, "V": 9}
# Every product of the model.
SPECS = [
    "BLM,MND->BLND",
    "BTND,BLND->BNTL",
    "BNTL,BLND->BTND",
    "BTND,NDM->BTM",
    "BLM,MH->BLH",
    "EGCM,EMH->EGCH",
    "EGCH,EHM->EGCM",
    "BTM,VM->BTV",
]


def random(seed: int, letters: str) -> Any:
    shape = tuple(SIZES[letter] for letter in letters)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


drop = jax.jit(dropout, static_argnums=1)


@pytest.mark.parametrize("spec", SPECS)
def test_contract_is_einsum_in_value_and_gradients(spec):
    letters_x, letters_w, letters_y = spec.replace("->", ",").split(",")
    x, w, dy = random(0, letters_x), random(1, letters_w), random(2, letters_y)

    @jax.jit
    def values(x, w, dy):
        y, pull_back = jax.vjp(lambda x, w: contract(spec, x, w, jnp.float32), x, w)
        return y, *pull_back(dy)

    expected = (
        np.einsum(spec, x, w),
        np.einsum(f"{letters_y},{letters_w}->{letters_x}", dy, w),
        np.einsum(f"{letters_y},{letters_x}->{letters_w}", dy, x),
    )
    for found, wanted in zip(values(x, w, dy), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_contract_in_bfloat16_keeps_each_operands_dtype_in_the_gradients():
    x, w = random(0, "BLM"), random(1, "MH").astype(jnp.bfloat16)
    y, pull_back = jax.vjp(lambda x, w: contract("BLM,MH->BLH", x, w, jnp.bfloat16), x, w)
    dx, dw = pull_back(jnp.ones_like(y))
    assert (y.dtype, dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(y.astype(jnp.float32), jnp.einsum("BLM,MH->BLH", x, w), atol=0.1)


def test_dropout_without_a_key_or_a_rate_is_the_identity():
    x = random(0, "BLM")
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(100_000,), (400, 250), (3, 10, 4000), (4000, 25)])
def test_dropout_keeps_the_expected_fraction_and_mean(rate, shape):
    # 4 standard deviations of a fraction of 100,000 draws or more
    tolerance = 4 * (rate * (1 - rate) / 100_000) ** 0.5
    masks = []
    for seed in range(3):
        y = np.asarray(drop(np.ones(shape, np.float32), rate, jax.random.key(seed)))
        np.testing.assert_allclose(np.unique(y), [0.0, 1 / (1 - rate)], rtol=1e-6)
        assert abs((y == 0).mean() - rate) < tolerance
        assert abs(y.mean() - 1) < tolerance / (1 - rate)
        masks.append(y == 0)
    both = (masks[0] & masks[1]).mean()  # keys draw independently
    assert abs(both - rate**2) < tolerance


def test_dropout_is_independent_between_rows_and_between_columns():
    is_zero = np.asarray(drop(np.ones((400, 250), np.float32), 0.5, jax.random.key(1))) == 0
    tolerance = 4 * (0.25 * 0.75 / 99_000) ** 0.5
    for shift in (1, 2, 7):
        assert abs((is_zero[shift:] & is_zero[:-shift]).mean() - 0.25) < tolerance
        assert abs((is_zero[:, shift:] & is_zero[:, :-shift]).mean() - 0.25) < tolerance
    # No row and no column is all of one kind (10 standard deviations).
    assert np.abs(is_zero.mean(0) - 0.5).max() < 10 * 0.5 / 400**0.5
    assert np.abs(is_zero.mean(1) - 0.5).max() < 10 * 0.5 / 250**0.5


def test_dropout_passes_gradients_where_it_keeps():
    x, key = random(0, "BLM"), jax.random.key(0)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(dropout(x, 0.5, key))))(x)
    np.testing.assert_array_equal(gradient, drop(np.ones_like(x), 0.5, key))


def test_split_key_of_no_key_is_no_keys():
    assert split_key(None, 3) == [None, None, None]
    keys: Any = split_key(jax.random.key(0), 3)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3


def test_norm_divides_by_the_root_mean_square():
    norm = Norm(SIZES)
    norm.scale_M[...] = random(1, "M")
    x_BLM = random(0, "BLM")
    rms = np.sqrt(np.square(x_BLM).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(norm(x_BLM), x_BLM / rms * random(1, "M"), rtol=1e-5)


def test_position_encoding_is_sines_then_cosines_of_the_position():
    encoding_LM = np.asarray(position_encoding(jnp.array([0, 1, 3]), 8))
    np.testing.assert_allclose(encoding_LM[0], [0] * 4 + [1] * 4, atol=1e-7)
    slowest = 1e-4
    np.testing.assert_allclose(encoding_LM[:, 0], np.sin([0, 1, 3]), rtol=1e-6)
    np.testing.assert_allclose(encoding_LM[:, 3], np.sin(slowest * np.array([0, 1, 3])), rtol=1e-5)
    np.testing.assert_allclose(encoding_LM[:, 4], np.cos([0, 1, 3]), rtol=1e-6)


def test_masks_let_a_sentence_see_itself_and_a_target_its_past():
    segment_BL = jnp.array([[1, 1, 2, 0]])
    same = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(Segments(segment_BL, segment_BL).mask()[0], same)
    causal = Segments(segment_BL, segment_BL, is_causal=True)
    np.testing.assert_array_equal(causal.mask()[0], np.tril(same))


def test_attention_is_a_softmax_over_the_keys_of_the_mask_head_by_head():
    layer = Attention(
        ModelConfig(dropout_rate=0.0, dtype="float32"), SIZES, key_stream(jax.random.key(0))
    )
    wq, wk, wv, wo = (
        np.asarray(w[...]) for w in (layer.wq_MND, layer.wk_MND, layer.wv_MND, layer.wo_NDM)
    )
    x_BTM, memory_BLM = random(0, "BTM"), random(1, "BLM")
    segments = Segments(
        jnp.array([[1, 2, 2], [1, 1, 2]]), jnp.array([[1, 1, 2, 2, 0], [1, 2, 2, 2, 2]])
    )
    mask_BTL = segments.mask()
    attend = jax.jit(lambda x_BTM, memory_BLM: layer(x_BTM, memory_BLM, segments, None))
    y_BTM = attend(x_BTM, memory_BLM)
    for b in range(2):
        for t in range(3):
            expected_M = np.zeros(SIZES["M"])
            seen = [k for k in range(5) if mask_BTL[b, t, k]]
            for n in range(SIZES["N"]):
                q_D = x_BTM[b, t] @ wq[:, n]
                logits = [q_D @ (memory_BLM[b, k] @ wk[:, n]) / SIZES["D"] ** 0.5 for k in seen]
                weights = np.exp(logits) / np.exp(logits).sum()
                v_D = sum(
                    w * (memory_BLM[b, k] @ wv[:, n]) for w, k in zip(weights, seen, strict=True)
                )
                expected_M += v_D @ wo[n]
            np.testing.assert_allclose(y_BTM[b, t], expected_M, rtol=1e-4, atol=1e-5)


# Sentences of the rows, with padding at the end.
PACKED = jnp.array([[1] * 4 + [2] * 5 + [0] * 2, [1] * 3 + [2] * 2 + [3] * 6])
MEMORY = jnp.array([[1] * 3 + [2] * 3 + [0], [1] * 2 + [2] * 1 + [3] * 4])


@pytest.mark.parametrize(
    "segments",
    [
        Segments(PACKED, PACKED),
        Segments(PACKED, PACKED, is_causal=True),
        Segments(PACKED, MEMORY),
        Segments(PACKED, 0 * MEMORY),
    ],
    ids=["self", "causal", "cross", "nothing to see"],
)
def test_attention_in_blocks_is_that_of_all_queries_at_once(monkeypatch, segments):
    layer = Attention(
        ModelConfig(dropout_rate=0.1, dtype="float32"), SIZES, key_stream(jax.random.key(0))
    )
    rng = np.random.default_rng(0)
    x_BTM, memory_BLM, dy_BTM = (
        rng.normal(size=(*array.shape, SIZES["M"])).astype(np.float32)
        for array in (segments.query_BT, segments.key_BL, segments.query_BT)
    )

    def run():
        def attend(graph_state, x_BTM, memory_BLM):
            return nnx.merge(graph, graph_state)(x_BTM, memory_BLM, segments, None)

        graph, state = nnx.split(layer)
        y_BTM, pull_back = jax.vjp(attend, state, x_BTM, memory_BLM)
        return y_BTM, pull_back(dy_BTM)

    whole = jax.jit(lambda: run())()
    monkeypatch.setattr(attention, "BLOCK", 4)  # three blocks for eleven queries
    blocks = jax.jit(lambda: run())()
    for one, other in zip(jax.tree.leaves(blocks), jax.tree.leaves(whole), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_attention_in_blocks_never_has_all_weights_and_drops_some(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 8)
    layer = Attention(
        ModelConfig(dropout_rate=0.5, dtype="float32"), SIZES, key_stream(jax.random.key(0))
    )
    x_BTM = np.random.default_rng(0).normal(size=(1, 64, SIZES["M"])).astype(np.float32)
    ones = jnp.ones((1, 64), jnp.int32)

    def attend(x_BTM, key):
        return layer(x_BTM, x_BTM, Segments(ones, ones, is_causal=True), key)

    def gradient(x_BTM, key):
        return jax.grad(lambda x_BTM: attend(x_BTM, key).sum())(x_BTM)

    keys = jax.random.split(jax.random.key(1), 2)
    first, again, other = (jax.jit(attend)(x_BTM, key) for key in (keys[0], keys[0], keys[1]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    shapes = re.findall(r"\[([\d,]+)\]", str(jax.make_jaxpr(gradient)(x_BTM, keys[0])))
    assert max(math.prod(map(int, shape.split(","))) for shape in shapes) < 64 * 64


@pytest.mark.parametrize(("platform", "has_all"), [("tpu", True), ("gpu", False), ("cpu", False)])
def test_on_tpus_all_queries_attend_at_once(monkeypatch, platform, has_all):
    monkeypatch.setattr(attention, "BLOCK", 8)
    monkeypatch.setattr(attention, "platform", lambda: platform)
    layer = Attention(ModelConfig(dtype="float32"), SIZES, key_stream(jax.random.key(0)))
    x_BTM = jnp.zeros((1, 64, SIZES["M"]))
    one_BT = jnp.ones((1, 64), jnp.int32)
    segments = Segments(one_BT, one_BT)
    jaxpr = jax.make_jaxpr(lambda x_BTM: layer(x_BTM, x_BTM, segments, None))(x_BTM)
    assert ("64,64]" in str(jaxpr)) == has_all
