"""Images convolved and pooled in parts equal those of the whole, and only halos are sent."""
# SPDX-License-Identifier: Apache-2.0

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gshard_mt.partitioning.annotate import split
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.spatial.halo import (
    POOLINGS,
    Window,
    convolve_split,
    exchange_halo,
    plan_halo,
    pool_split,
)
from gshard_mt.partitioning.spatial.parts import map_split
from tests.collectives import find_collectives

BOTH = ("data", "expert")
PADDINGS = ["VALID", "SAME", (2, 1), (0, 3), (9, 7), (-1, -2)]
GRID = [
    Window(size, stride, padding, base_dilation, window_dilation)
    for size, stride, padding, base_dilation, window_dilation in itertools.product(
        [1, 2, 3, 5], [1, 2, 3], PADDINGS, [1, 2, 3], [1, 2]
    )
]


def choose(num_windows, width):
    """A sample of the grid, of windows that fit."""
    fitting = [window for window in GRID if window.count(width) > 0]
    chosen = np.random.default_rng(width).choice(len(fitting), num_windows, replace=False)
    return [fitting[i] for i in chosen]


def make(*shape):
    """Small integers: sums of products of them are exact in float32."""
    values = np.random.default_rng(shape[-1]).integers(-4, 5, shape)
    return jnp.asarray(values, jnp.float32)


def convolve(images, kernel, windows):
    """The unsharded operation."""
    return lax.conv_general_dilated(
        images,
        kernel,
        [w.stride for w in windows],
        [w.pad(size) for w, size in zip(windows, images.shape[2:], strict=True)],
        [w.base_dilation for w in windows],
        [w.window_dilation for w in windows],
    )


def pool(images, windows, operation):
    """The unsharded operation."""
    return lax.reduce_window(
        images,
        {"sum": 0.0, "max": -jnp.inf, "min": jnp.inf}[operation],
        POOLINGS[operation],
        (1, 1, *(w.size for w in windows)),
        (1, 1, *(w.stride for w in windows)),
        [(0, 0), (0, 0)] + [w.pad(n) for w, n in zip(windows, images.shape[2:], strict=True)],
        (1, 1, *(w.base_dilation for w in windows)),
        (1, 1, *(w.window_dilation for w in windows)),
    )


def find_part(plan, image, part, i, window):
    """A slow `halo` of device `i`: its dilated rows, NaN where it has none."""
    at = np.arange(i * part - plan.left, (i + 1) * part + plan.right)
    rows = np.array([image[r] if 0 <= r < len(image) else np.nan for r in at])
    rows = np.pad(rows, plan.pad, constant_values=np.nan)
    assert 0 <= plan.start[i] <= len(rows) - plan.num_rows
    rows = rows[plan.start[i] :][: plan.num_rows]
    row = plan.first[i] + np.arange(plan.num_rows)
    rows = np.where((row >= 0) & (row < len(image)), rows, 0)
    dilated = np.zeros(plan.num_rows * window.base_dilation)
    dilated[:: window.base_dilation] = rows
    assert 0 <= plan.skip[i] <= len(dilated) - plan.num_dilated
    return dilated[plan.skip[i] :][: plan.num_dilated]


@pytest.mark.parametrize(("width", "parts"), [(8, 2), (13, 4), (16, 8), (21, 8), (37, 1)])
def test_every_device_gets_the_rows_of_its_windows_and_no_halo_is_larger_than_needed(width, parts):
    image, part = np.arange(1.0, width + 1), -(-width // parts)
    for window in GRID:
        if window.count(width) < 1:
            continue
        plan = plan_halo(window, width, parts)
        low, _ = window.pad(width)
        part_out = -(-window.count(width) // parts)
        needed = {0: None}
        for i in range(parts):
            found = find_part(plan, image, part, i, window)
            for output in range(i * part_out, min((i + 1) * part_out, window.count(width))):
                begin = output * window.stride - low
                at = begin + np.arange(window.size) * window.window_dilation
                row, hole = np.divmod(at, window.base_dilation)
                is_real = (hole == 0) & (row >= 0) & (row < width)
                expected = np.where(is_real, image[np.clip(row, 0, width - 1)], 0)
                offset = (output - i * part_out) * window.stride
                seen = found[offset : offset + window.span : window.window_dilation]
                assert seen.tolist() == expected.tolist()
                needed.update({int(r) - i * part: None for r in row[is_real]})
        assert plan.left == max(0, -min(needed))
        assert plan.right == max(0, max(needed) + 1 - part)


@pytest.mark.parametrize("width", [13, 16])
def test_one_dimension_in_parts_is_the_whole_for_all_strides_dilations_and_paddings(width):
    images, windows = make(2, 2, width), choose(8, width)
    kernels = [make(3, 2, window.size) for window in windows]

    def run(convolve, pool):
        convolved = [convolve(images, k, [w]) for w, k in zip(windows, kernels, strict=True)]
        return convolved, [pool(images, [w], o) for w in windows for o in ("max", "sum")]

    with jax.set_mesh(build_mesh(1, 8)):
        actual = jax.jit(
            lambda: run(
                lambda x, k, w: convolve_split(x, k, w, 2, "expert"),
                lambda x, w, o: pool_split(x, w, 2, "expert", o),
            )
        )()
    jax.tree.map(np.testing.assert_array_equal, actual, run(convolve, pool))


IMAGE_CASES = [  # width, spatial windows, mesh axes
    (16, [Window(3, padding="SAME"), Window(3, padding="SAME")], BOTH),
    (13, [Window(3, 1, "SAME", 2, 2), Window(5, 3, "SAME")], BOTH),
    (8, [Window(3, padding=(0, 2)), Window(5, 1, (9, 9), 1, 4)], "expert"),  # wider than a part
]


@pytest.mark.parametrize(("width", "windows", "mesh_axis"), IMAGE_CASES)
def test_images_in_parts_have_the_values_and_gradients_of_whole_ones(width, windows, mesh_axis):
    images, kernel = make(2, 2, 6, width), make(3, 2, *(w.size for w in windows))
    pooling = [Window(2, 1, "SAME"), Window(3, 2, "SAME")]

    def loss(images, kernel, convolve, pool):
        hidden = jax.nn.relu(convolve(images, kernel, windows))
        pooled = pool(hidden, pooling, "max")
        return jnp.sum(jnp.sin(pooled / 8)), (hidden, pooled)

    def run(*functions):
        return jax.jit(
            lambda *arrays: jax.value_and_grad(loss, (0, 1), has_aux=True)(*arrays, *functions)
        )(images, kernel)

    with jax.set_mesh(build_mesh(2, 4)):
        actual = run(
            lambda x, k, w: split(convolve_split(x, k, w, 3, mesh_axis), 3, mesh_axis),
            lambda x, w, o: pool_split(x, w, -1, mesh_axis, o),
        )
    expected = run(convolve, pool)
    jax.tree.map(np.testing.assert_array_equal, actual[0][1], expected[0][1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, expected
    )


def test_without_a_mesh_the_result_is_the_same_and_so_on_one_device():
    images, kernel = make(2, 2, 6, 13), make(3, 2, 3, 5)
    windows = [Window(3, 2, "SAME"), Window(5, 2, (1, 3), 3)]
    expected = convolve(images, kernel, windows)
    np.testing.assert_array_equal(convolve_split(images, kernel, windows, 2, BOTH), expected)
    with jax.set_mesh(build_mesh(1, 1, devices=jax.devices()[:1])):
        actual = jax.jit(lambda x: convolve_split(x, kernel, windows, 3, BOTH))(images)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("operation", "dtype"), [("sum", jnp.bfloat16), ("max", jnp.int32), ("min", jnp.bfloat16)]
)
def test_pooling_of_other_types_has_their_identity_in_the_padding(operation, dtype):
    images, windows = make(1, 1, 13).astype(dtype), [Window(3, 2, (4, 2))]
    whole = jax.jit(lambda x: pool_split(x, windows, 2, "expert", operation))(images)
    with jax.set_mesh(build_mesh(1, 8)):
        parts = jax.jit(lambda x: pool_split(x, windows, 2, "expert", operation))(images)
    np.testing.assert_array_equal(parts, whole)
    inner = pool(images.astype(jnp.float32), windows, operation)[..., 2:-1]
    np.testing.assert_array_equal(whole.astype(jnp.float32)[..., 2:-1], inner)


HOPS = [  # width, window, collective-permutes
    (16, Window(3, padding="SAME"), 2),
    (16, Window(2, 2), 0),
    (16, Window(6, padding=(5, 0)), 3),  # five rows, from parts of two
    (16, Window(8, padding=(-8, 15)), 7),  # outputs on other devices than the rows they read
    (16, Window(3, 1, (1, 2), 2), 1),
    (32, Window(4, 2, (1, 1)), 2),
]


def compile_convolution(width, window, is_gradient):
    """Compiles with the batch over `data` left to XLA and the columns over `expert`."""

    def run(images, kernel):
        return convolve_split(images, kernel, [Window(1), window], 3, "expert")

    def loss(images, kernel):
        return jnp.sum(run(images, kernel) ** 2)

    mesh = build_mesh(1, 8)
    with jax.set_mesh(mesh):
        images = split(make(2, 2, 6, width), 3, "expert")
        program = jax.jit(jax.grad(loss, (0, 1)) if is_gradient else run)
        return program.lower(images, make(3, 2, 1, window.size)).compile().as_text()


@pytest.mark.parametrize(("width", "window", "num_hops"), HOPS)
def test_only_halos_are_sent_by_one_collective_permute_per_hop(width, window, num_hops):
    plan, part = plan_halo(window, width, 8), width // 8
    assert -(-plan.left // part) + -(-plan.right // part) == num_hops
    collectives = find_collectives(compile_convolution(width, window, False))
    assert [kind for kind, _ in collectives] == ["collective-permute"] * num_hops
    assert sum(size for _, size in collectives) == (plan.left + plan.right) * 2 * 2 * 6


def test_gradients_send_halos_back_and_add_up_the_kernel():
    collectives = find_collectives(compile_convolution(16, Window(3, padding="SAME"), True))
    kinds = [kind for kind, _ in collectives]
    assert kinds.count("all-reduce") == 1 and ("all-reduce", 3 * 2 * 3) in collectives
    assert kinds.count("collective-permute") == len(kinds) - 1 == 4


def test_the_batch_stays_split_by_xla_when_another_dimension_is_split_manually():
    with jax.set_mesh(build_mesh(2, 4)):
        spec = jax.P("data", None, None, "expert")
        images = jax.device_put(make(4, 2, 6, 16), spec)
        windows = [Window(3, padding="SAME"), Window(3, padding="SAME")]
        program = jax.jit(lambda x, k: convolve_split(x, k, windows, 3, "expert"))
        compiled = program.lower(images, make(3, 2, 3, 3)).compile()
        result = compiled(images, make(3, 2, 3, 3))
    assert result.sharding.spec == spec
    assert find_collectives(compiled.as_text()) == [("collective-permute", 2 * 2 * 6)] * 2


def test_uneven_images_are_gathered_only_when_the_program_returns():
    def run(images):
        for _ in range(3):
            images = split(images, 3, "expert")
            images = convolve_split(images, make(2, 2, 1, 3), windows, 3, "expert")
        return images

    windows = [Window(1), Window(3, padding="SAME")]
    with jax.set_mesh(build_mesh(1, 8)):
        images = make(2, 2, 6, 13)
        compiled = jax.jit(run).lower(images).compile()
        kinds = [kind for kind, _ in find_collectives(compiled.as_text())]
    assert kinds == ["collective-permute"] * 6 + ["all-gather"]


def test_a_halo_wider_than_parts_comes_from_further_away():
    x = jnp.arange(1.0, 9.0)

    def exchange(part_id, part):
        return exchange_halo(part, 0, "expert", 3, 2)

    with jax.set_mesh(build_mesh(1, 8)):
        rows = jax.jit(map_split(exchange, (0,), 0, "expert"))(x).reshape(8, 6)
    padded = jnp.pad(x, (3, 2))
    np.testing.assert_array_equal(rows, jnp.stack([padded[i : i + 6] for i in range(8)]))


def test_windows_that_do_not_fit_are_refused():
    images, kernel, windows = jnp.zeros((1, 2, 6, 8)), jnp.zeros((3, 2, 3, 3)), [Window(3)] * 2
    with pytest.raises(ValueError, match="stride and dilations must be 1 or more"):
        Window(3, stride=0)
    with pytest.raises(ValueError, match=r"are not of the size of a kernel \(3, 2, 3, 3\)"):
        convolve_split(images, kernel, [Window(3), Window(2)], 3, "expert")
    with pytest.raises(ValueError, match=r"1 windows for the spatial dimensions of \(1, 2, 6, 8"):
        pool_split(images, [Window(3)], 3, "expert", "max")
    with pytest.raises(ValueError, match="dimension 1 of .* is not a spatial one"):
        pool_split(images, windows, 1, "expert", "max")
    with pytest.raises(ValueError, match=r"Window\(size=9.* doesn't fit 8 rows"):
        pool_split(images, [Window(1), Window(9)], 3, "expert", "max")
    with pytest.raises(ValueError, match="'mean' is not a pooling; accepted: sum, max, min"):
        pool_split(images, windows, 3, "expert", "mean")
