"""The kernels for NVIDIA GPUs, interpreted, against a loop, and their Triton code."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import pytest
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import arith, math, scf  # noqa: F401 (registered when they are imported)
from jaxlib.triton import dialect

from gshard_mt.routing.triton_product import Tile, default_tile, multiply
from tests.routing.expert_rows import (
    PROBLEMS,
    Problem,
    check,
    check_bfloat16,
    check_not_a_number,
    value_and_gradients,
)

SMALL = Tile(16, 32, 16, num_warps=4)  # many blocks in few elements


def interpreted(x_RM, w_EMH, size_E, tile: Tile | None = SMALL):
    return multiply(x_RM, w_EMH, size_E, tile, is_interpreted=True)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_expert_meets_its_own_rows_and_nothing_else(problem):
    check(interpreted, PROBLEMS[problem])


def test_blocks_of_the_sizes_that_gpus_have():
    product = functools.partial(interpreted, tile=None)
    check(product, Problem(300, 160, 200, [150, 0, 130]))


def test_bfloat16_is_summed_in_float32_and_rounded_once():
    check_bfloat16(interpreted, Problem(100, 70, 50, [60, 30]))


def test_rows_that_are_not_numbers_disturb_no_expert():
    check_not_a_number(interpreted)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(("rows", "experts"), [(65_536, 8), (512, 64)])
def test_the_kernels_become_valid_triton_code(rows, experts, dtype):
    shapes = ((rows, 1024), (experts, 1024, 4096), (experts,), (rows, 4096))
    dtypes = (dtype, dtype, jnp.int32, dtype)
    arguments = map(jax.ShapeDtypeStruct, shapes, dtypes)
    with jax.sharding.use_abstract_mesh(_h100()):
        traced = value_and_gradients.trace(multiply, *arguments)
        module = traced.lower(lowering_platforms=("cuda",)).compiler_ir()
    assert module is not None
    kernels = list(_kernels(module.operation))
    assert len(kernels) == 3
    context = ir.Context()
    dialect.register_dialect(context)
    context.load_all_available_dialects()
    for code in kernels:
        with context:
            assert "tt.dot" in str(ir.Module.parse(code))  # which verifies it


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("rows", [8, 512, 65_536])
def test_the_steps_of_a_tile_fit_into_the_shared_memory_of_small_gpus(rows, dtype):
    tile = default_tile(rows, 64, jnp.dtype(dtype))
    elements = (tile.rows + tile.columns) * tile.summed
    assert tile.num_stages * elements * jnp.dtype(dtype).itemsize <= 99 * 1024


def _h100() -> jax.sharding.AbstractMesh:
    """Without a GPU, later versions of JAX ask for which one they are to write kernels."""
    device = jax.sharding.AbstractDevice("NVIDIA H100", None, "gpu")
    return jax.sharding.AbstractMesh((), (), abstract_device=device)


def _kernels(operation):
    """Yields the code of the Triton kernels that an operation calls."""
    for region in operation.regions:
        for block in region:
            for inner in block:
                attributes = inner.operation.attributes
                if "mhlo.backend_config" in attributes:
                    config = attributes["mhlo.backend_config"]
                    if isinstance(config, ir.DictAttr) and "ir" in config:
                        yield ir.StringAttr(config["ir"]).value_bytes
                yield from _kernels(inner.operation)
