"""Products by group against a loop, on CPUs in blocks, and against `lax.ragged_dot`."""
# SPDX-License-Identifier: Apache-2.0

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing import megablox_product, triton_product
from gshard_mt.routing.grouped_product import grouped_product

ROWS, M, H = 96, 5, 7

blocked = functools.partial(grouped_product, platform="cpu")


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(product, x_RM, w_EMH, size_E, dy_RH):
    y_RH, pull_back = jax.vjp(lambda x, w: product(x, w, size_E), x_RM, w_EMH)
    return (y_RH, *pull_back(dy_RH))


def make(seed: int, sizes: list[int]):
    rng = np.random.default_rng(seed)
    shapes = ((ROWS, M), (len(sizes), M, H), (ROWS, H))
    x_RM, w_EMH, dy_RH = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x_RM, w_EMH, np.asarray(sizes, np.int32), dy_RH


def cut(seed: int, num_groups: int, num_rows: int) -> list[int]:
    """Sizes of groups, many of them empty, that add up to `num_rows`."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.choice([0, num_rows, *range(num_rows)], num_groups - 1))
    return np.diff([0, *ends, num_rows]).tolist()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 4, 40]), st.sampled_from([0, 1, 50, ROWS]), st.integers(0, 1000))
def test_every_group_meets_its_own_matrix_and_nothing_else(num_groups, num_rows, seed):
    sizes = cut(seed, num_groups, num_rows)
    x_RM, w_EMH, size_E, dy_RH = make(seed, sizes)
    y_RH, dx_RM, dw_EMH = np.zeros((ROWS, H)), np.zeros((ROWS, M)), np.zeros((num_groups, M, H))
    start = 0
    for group, size in enumerate(sizes):
        rows = slice(start, start + size)
        y_RH[rows] = x_RM[rows] @ w_EMH[group]
        dx_RM[rows] = dy_RH[rows] @ w_EMH[group].T
        dw_EMH[group] = x_RM[rows].T @ dy_RH[rows]
        start += size
    found = value_and_gradients(blocked, x_RM, w_EMH, size_E, dy_RH)
    for one, other in zip(found, (y_RH, dx_RM, dw_EMH), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    # Without a gradient there are slots, except for 40 groups.
    np.testing.assert_allclose(jax.jit(blocked)(x_RM, w_EMH, size_E), y_RH, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", [[96, 0, 0, 0], [10, 0, 80, 0], [0, 0, 0, 3], [24] * 4])
def test_the_form_of_other_devices_computes_the_same(sizes):
    arguments = make(0, sizes)
    ragged = functools.partial(grouped_product, platform="tpu")
    found = value_and_gradients(blocked, *arguments)
    for one, other in zip(found, value_and_gradients(ragged, *arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "device", "kernels"),
    [
        ("gpu", {"compute_capability": "9.0"}, triton_product),
        ("gpu", {"compute_capability": "12.0"}, triton_product),
        ("gpu", {"compute_capability": "7.5"}, None),
        ("gpu", {"compute_capability": "gfx942"}, None),
        ("tpu", {"device_kind": "TPU v5 lite"}, megablox_product),
        ("tpu", {"device_kind": "TPU7x"}, megablox_product),
        ("tpu", {"device_kind": "TPU v3"}, None),
        ("metal", {"device_kind": "Metal"}, None),
    ],
)
def test_hardware_that_can_run_them_has_kernels(monkeypatch, platform, device, kernels):
    x_RM, w_EMH, size_E, _ = make(2, [50, 0, 30])
    expected = jax.jit(blocked)(x_RM, w_EMH, size_E)
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(**device)])
    calls = []
    for module in (triton_product, megablox_product):
        interpreted = functools.partial(module.multiply, is_interpreted=True)

        def multiply(*arguments, module=module, interpreted=interpreted):
            calls.append(module)
            return interpreted(*arguments)

        monkeypatch.setattr(module, "multiply", multiply)
    y_RH = jax.jit(lambda x, w, size: grouped_product(x, w, size, platform))(x_RM, w_EMH, size_E)
    assert calls == ([kernels] if kernels else [])
    np.testing.assert_allclose(y_RH, expected, rtol=1e-5, atol=1e-5)


def test_a_mesh_of_tpus_that_are_not_here_has_their_kernels():
    device = jax.sharding.AbstractDevice("TPU v5 lite", 1, "tpu")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)
    arguments = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in make(0, [96, 0])[:3]]
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(functools.partial(grouped_product, platform="tpu")).trace(*arguments)
    assert "pallas_call" in str(traced.jaxpr)


def test_bfloat16_is_summed_in_float32():
    x_RM, w_EMH, size_E, dy_RH = make(1, [40, 30])
    low = (jnp.asarray(x_RM, jnp.bfloat16), jnp.asarray(w_EMH, jnp.bfloat16))
    y_RH = jax.jit(blocked)(*low, size_E)
    assert y_RH.dtype == jnp.float32
    expected = jax.jit(blocked)(*(a.astype(jnp.float32) for a in low), size_E)
    np.testing.assert_allclose(y_RH, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("sizes", [[96, 0, 0, 0], [10, 0, 80, 0], [0, 0, 0, 3], [24] * 4])
def test_products_of_integers_are_exact_and_scaled_by_group(sizes, platform):
    rng = np.random.default_rng(3)
    x_RM = rng.integers(-127, 128, (ROWS, M)).astype(np.int8)
    w_EMH = rng.integers(-127, 128, (len(sizes), M, H)).astype(np.int8)
    scale_EH = rng.uniform(0.5, 2, (len(sizes), H)).astype(np.float32)
    group_R = np.repeat(np.arange(len(sizes)), sizes)
    y_RH = np.zeros((ROWS, H), np.float32)
    for row, group in enumerate(group_R):
        y_RH[row] = (x_RM[row].astype(np.int32) @ w_EMH[group]) * scale_EH[group]
    size_E = jnp.asarray(sizes, jnp.int32)
    found = jax.jit(grouped_product, static_argnums=3)(x_RM, w_EMH, size_E, platform, scale_EH)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, y_RH, rtol=1e-6)
