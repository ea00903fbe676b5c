"""Weights of 8 bits: the same integers in plain NumPy, bounds on the rounding, and whole models."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.model.blueprint import abstract_model
from gshard_mt.model.layers import contract
from gshard_mt.model.moe import decoding_groups
from gshard_mt.model.quantized import (
    Quantized,
    has_fast_integers,
    quantize,
    quantize_params,
    quantize_weight,
)
from gshard_mt.partitioning.axes import SUMMED, letters_of, scale_letters
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.train.step import sides
from tests.model.tiny import DENSE, MOE, VOCAB_SIZES, make, one_device, pack, sentence, with_moe

SIZES = {"B": 2, "L": 5, "M": 64, "H": 48, "N": 2, "D": 8, "E": 3, "R": 4, "V": 9, "T": 3}
# Every product of the model with a weight.
SPECS = [
    "BLM,MND->BNLD",
    "BTM,MND->BTND",
    "BTM,MND->BNTD",
    "BTND,NDM->BTM",
    "BNTD,NDM->BTM",
    "BLM,MH->BLH",
    "BLH,HM->BLM",
    "BTM,VM->BTV",
    "ERM,EMH->ERH",
    "ERH,EHM->ERM",
]


def random(seed: int, letters: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=[SIZES[letter] for letter in letters]).astype(np.float32)


def rounded(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Integers and scale, which keeps its axes, in float64."""
    scale = np.abs(x.astype(np.float64)).max(axes, keepdims=True) / 127
    return np.round(x / np.where(scale > 0, scale, 1)), scale


@pytest.mark.parametrize("spec", SPECS)
def test_a_product_is_that_of_the_rounded_numbers(spec):
    letters_x, letters_w, letters_y = spec.replace("->", ",").split(",")
    x, w = random(0, letters_x), random(1, letters_w) * 3
    summed = [letter for letter in letters_x if letter in letters_w and letter not in letters_y]
    integers_x, scale_x = rounded(x, tuple(map(letters_x.index, summed)))
    integers_w, scale_w = rounded(w, tuple(map(letters_w.index, summed)))
    exact = np.einsum(spec, integers_x * scale_x, integers_w * scale_w)
    found = contract(spec, jnp.asarray(x), quantize_weight(jnp.asarray(w), letters_w), "float32")
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
    # Rounding moves a number by half a step at most.
    most = np.einsum(spec, np.abs(x) + scale_x / 2, np.broadcast_to(scale_w / 2, w.shape))
    most += np.einsum(spec, np.broadcast_to(scale_x / 2, x.shape), np.abs(w))
    assert np.all(np.abs(found - np.einsum(spec, x, w)) <= most + 1e-5)


def test_rows_of_zeros_and_huge_and_tiny_numbers_stay_what_they_are():
    x = jnp.asarray([[0.0, 0.0], [3e30, -3e30], [1e-20, 0.0], [1.0, jnp.float32(-1.0)]])
    values, scale = quantize(x, (1,))
    np.testing.assert_array_equal(values, [[0, 0], [127, -127], [127, 0], [127, -127]])
    np.testing.assert_allclose(values * scale[:, None], x, rtol=1e-6)


def test_weights_have_a_scale_for_each_output_and_nothing_else_changes():
    tiny = make(MOE)
    smaller = quantize_params(tiny.params)
    names = set()

    def compare(path, whole, part):
        letters = letters_of(path[-1].key)
        if letters not in SUMMED:
            np.testing.assert_array_equal(part, whole)
            return
        names.add(path[-1].key)
        kept = scale_letters(letters)
        first = whole.ndim - len(letters)
        assert part.values.shape == whole.shape and part.values.dtype == jnp.int8
        sizes = dict(zip(letters, whole.shape[first:], strict=True))
        assert part.scale.shape == (*whole.shape[:first], *(sizes[c] for c in kept))

    jax.tree.map_with_path(
        compare, tiny.params, smaller, is_leaf=lambda x: isinstance(x, Quantized)
    )
    assert {"wq_MND", "wo_NDM", "wi_EMH", "wo_EHM", "wi_MH", "target_embedding_VM"} <= names
    assert not names & {"wg_ME", "scale_M"}


def test_the_abstract_model_has_the_shapes_and_shardings_of_the_parameters():
    like = abstract_model(MOE, VOCAB_SIZES, build_mesh(2, 2, 2), quantized=True).params
    smaller = quantize_params(make(MOE).params)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (like, smaller)]
    assert shapes[0] == shapes[1]
    sparse = like["encoder"]["layers"][0]["feed_forward"]["wi_EMH"]
    assert tuple(sparse.values.sharding.spec) == (None, "expert", None, "model")
    assert tuple(sparse.scale.sharding.spec) == (None, "expert", "model")


def decode(config, params, mesh) -> np.ndarray:
    """The logits of packed sentences, as in decoding: nothing is dropped."""
    is_quantized = isinstance(params["target_embedding_VM"], Quantized)
    blueprint = abstract_model(config, VOCAB_SIZES, mesh, quantized=is_quantized)
    groups = decoding_groups(config)

    @jax.jit
    def run(params, batch):
        model, (source, target) = blueprint.build(params), sides(batch)
        memory_BLM, _ = model.encode(source, groups)
        hidden_BTM, _ = model.decode(memory_BLM, source.segment_BL, target, groups)
        return model.logits(hidden_BTM)

    batch = pack([[sentence(row, 7, 6), sentence(row + 8, 4, 3)] for row in range(8)], 16)
    with jax.set_mesh(mesh):
        placed = jax.tree.map(
            lambda x, like: jax.device_put(x, like.sharding), params, blueprint.params
        )
        return np.asarray(run(placed, batch))


@pytest.mark.parametrize("config", [DENSE, MOE, with_moe(MOE, gate="expert_choice")])
def test_a_model_computes_nearly_the_same_on_every_mesh(config):
    params = make(config).params
    smaller = quantize_params(params)
    whole = decode(config, params, one_device())
    found = decode(config, smaller, one_device())
    spread = whole.std()
    assert 0 < np.sqrt(np.mean((found - whole) ** 2)) < 0.03 * spread
    # A number half-way between two integers may be rounded to the other one.
    on_mesh = decode(config, smaller, build_mesh(2, 4))
    assert np.median(np.abs(on_mesh - found)) < 1e-5 * spread
    assert np.sqrt(np.mean((on_mesh - found) ** 2)) < 0.01 * spread
    # Devices that share an expert have a scale each for their part of its hidden units.
    on_mesh = decode(config, smaller, build_mesh(2, 2, 2))
    assert np.sqrt(np.mean((on_mesh - whole) ** 2)) < 0.03 * spread


def test_processors_are_asked_for_their_instructions(monkeypatch):
    cases = {"flags\t: fpu avx512f avx512_vnni": True, "flags: avx2 vnni": False, None: False}
    for content, expected in cases.items():

        def read(self, encoding, content=content):
            if content is None:
                raise FileNotFoundError(self)
            return content

        monkeypatch.setattr(pathlib.Path, "read_text", read)
        has_fast_integers.cache_clear()
        assert has_fast_integers() is expected
    has_fast_integers.cache_clear()
