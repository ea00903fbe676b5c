"""Convolution and pooling of images split along a spatial dimension by halo exchange."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gshard_mt.partitioning.annotate import num_parts
from gshard_mt.partitioning.spatial.parts import map_split
from gshard_mt.partitioning.spatial.uneven import identity, pad_to

# Appendix A.4 of the paper. Images are [batch, features, spatial...] and kernels [features out,
# features in, spatial...], the default of `lax.conv_general_dilated`. One spatial dimension is
# split: device i holds the rows from i * ceil(rows / devices), of input and output. Inside jit that
# holds for any size, from one of these functions to the next (`annotate.split` between them); but
# outside jit JAX has no arrays of uneven parts, and gathers a result that the devices don't divide.

POOLINGS = {"sum": lax.add, "max": lax.max, "min": lax.min}


@dataclass(frozen=True)
class Window:
    """How a window moves along one spatial dimension (XLA's terms).

    `padding` is (low, high) around the dilated rows, negative to crop, or one of JAX's names
    "VALID", "SAME", "SAME_LOWER". There are `base_dilation` - 1 holes between two rows of the
    image and `window_dilation` - 1 between two of the window.
    """

    size: int
    stride: int = 1
    padding: str | tuple[int, int] = "VALID"
    base_dilation: int = 1
    window_dilation: int = 1

    def __post_init__(self):
        if min(self.size, self.stride, self.base_dilation, self.window_dilation) < 1:
            raise ValueError(f"{self}: size, stride and dilations must be 1 or more")

    @property
    def span(self) -> int:
        """Rows from the first to the last of one window."""
        return (self.size - 1) * self.window_dilation + 1

    def pad(self, num_rows: int) -> tuple[int, int]:
        """Returns (low, high) for an image of `num_rows` rows."""
        if isinstance(self.padding, str):
            rows = [_dilate(num_rows, self.base_dilation)]
            ((low, high),) = lax.padtype_to_pads(rows, [self.span], [self.stride], self.padding)
            return int(low), int(high)
        return self.padding

    def count(self, num_rows: int) -> int:
        """Returns how many times the window fits an image of `num_rows` rows."""
        room = _dilate(num_rows, self.base_dilation) + sum(self.pad(num_rows)) - self.span
        return max(room // self.stride + 1, 0)


def convolve_split(
    images: jax.Array,
    kernel: jax.Array,
    windows: Sequence[Window],
    dim: int,
    mesh_axis: str | tuple[str, ...],
) -> jax.Array:
    """Convolves images whose spatial dimension `dim`, of any size, is split over `mesh_axis`.

    There is one window per spatial dimension, of the kernel's size. The kernel is on every device.
    The result is that of `lax.conv_general_dilated`, split the same way; only halos are sent.
    Raises ValueError for windows that don't fit the images or the kernel.
    """
    if tuple(window.size for window in windows) != kernel.shape[2:]:
        raise ValueError(f"{list(windows)} are not of the size of a kernel {kernel.shape}")

    def convolve(images, windows, kernel):
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=[window.stride for window in windows],
            padding=[window.padding for window in windows],
            lhs_dilation=[window.base_dilation for window in windows],
            rhs_dilation=[window.window_dilation for window in windows],
        )

    fill = identity("sum", images.dtype)
    return _slide(convolve, fill, (images, kernel), windows, dim, mesh_axis)


def pool_split(
    images: jax.Array,
    windows: Sequence[Window],
    dim: int,
    mesh_axis: str | tuple[str, ...],
    operation: str,
) -> jax.Array:
    """Pools images whose spatial dimension `dim`, of any size, is split over `mesh_axis`.

    `operation` is one of POOLINGS; for a mean, divide the sum by the number of elements to count.
    Padding and holes hold its identity. The result is that of `lax.reduce_window`, split the same
    way; only halos are sent. JAX has no gradient of max and min with a `window_dilation`.
    """
    if operation not in POOLINGS:
        raise ValueError(f"{operation!r} is not a pooling; accepted: {', '.join(POOLINGS)}")
    fill = identity(operation, images.dtype)

    def pool(images, windows):
        return lax.reduce_window(
            images,
            fill,
            POOLINGS[operation],
            window_dimensions=(1, 1, *(window.size for window in windows)),
            window_strides=(1, 1, *(window.stride for window in windows)),
            padding=((0, 0), (0, 0), *(window.padding for window in windows)),
            base_dilation=(1, 1, *(window.base_dilation for window in windows)),
            window_dilation=(1, 1, *(window.window_dilation for window in windows)),
        )

    return _slide(pool, fill, (images,), windows, dim, mesh_axis)


def exchange_halo(
    x: jax.Array, dim: int, mesh_axis: str | tuple[str, ...], left: int, right: int
) -> jax.Array:
    """Returns this device's part with `left` rows of its left and `right` of its right neighbors.

    For use inside `map_split`. A halo wider than a part comes from devices further away: one
    collective-permute for each distance. Beyond the ends of the array there are zeros.
    """
    parts, size = num_parts(mesh_axis), x.shape[dim]
    rows = [x]
    for distance in range(1, -(-left // size) + 1):
        width = min(size, left - (distance - 1) * size)
        sent = lax.slice_in_dim(x, size - width, size, axis=dim)
        pairs = [(i, i + distance) for i in range(parts - distance)]
        rows.insert(0, lax.ppermute(sent, mesh_axis, pairs))
    for distance in range(1, -(-right // size) + 1):
        width = min(size, right - (distance - 1) * size)
        sent = lax.slice_in_dim(x, 0, width, axis=dim)
        pairs = [(i + distance, i) for i in range(parts - distance)]
        rows.append(lax.ppermute(sent, mesh_axis, pairs))
    return jnp.concatenate(rows, axis=dim) if len(rows) > 1 else x


class HaloPlan(NamedTuple):
    """Where each device finds the rows of its windows; lists have one entry per device."""

    image_rows: int  # on all devices, without padding
    dilation: int  # of the rows: `base_dilation`
    left: int  # rows of the halos, the largest that a device needs
    right: int
    pad: tuple[int, int]  # rows around halos and part, so that every slice is inside
    start: list[int]  # of the slice, in the padded rows
    first: list[int]  # row of the image where the slice starts
    num_rows: int  # of the slice
    skip: list[int]  # dilated rows of the slice before the device's first window
    num_dilated: int  # dilated rows that the device's windows span


def plan_halo(window: Window, num_rows: int, parts: int) -> HaloPlan:
    """Plans steps 1 to 4 of appendix A.4 for `num_rows` rows cut into `parts`; touches no device.

    Device i computes the outputs from i·W, W = ceil(outputs / parts). Its windows start at dilated
    row i·W·stride - low, and row r of the image is at r · dilation, so it needs rows up to the
    paper's right limit (stride·W·(i+1) - stride + window - low + dilation - 1) / dilation; fewer
    where windows skip rows or reach into the padding, which is not sent.

    The paper keeps base dilation in the operator, whose padding must be the same on all devices; so
    it needs three cases, depending on what divides stride·W, and slices the output or the kernel.
    Here the device dilates its own rows and slices them at its first window, which is exact in all
    cases and costs memory for the holes.
    """
    low, _ = window.pad(num_rows)
    num_outputs, dilation = window.count(num_rows), window.base_dilation
    part, part_out = -(-num_rows // parts), -(-num_outputs // parts)
    num_dilated = (part_out - 1) * window.stride + window.span
    length = -(-(num_dilated + dilation - 1) // dilation)
    index = np.arange(parts)
    device = np.minimum(index, (num_outputs - 1) // part_out)  # the ones after it compute padding
    output = device[:, None] * part_out + np.arange(part_out)
    begin = output * window.stride - low
    offset = np.arange(window.size) * window.window_dilation
    row, hole = np.divmod(begin[..., None] + offset, dilation)
    is_seen = (hole == 0) & (row >= 0) & (row < num_rows) & (output < num_outputs)[..., None]
    own_row = row - (device * part)[:, None, None]
    left = -int(own_row.min(where=is_seen, initial=0))
    right = int(own_row.max(where=is_seen, initial=part - 1)) + 1 - part
    first, skip = np.divmod(begin[:, 0], dilation)
    start = first - device * part + left
    pad_left = max(0, -int(start.min()))
    pad_right = max(0, int(start.max()) + length - (left + part + right))
    return HaloPlan(
        num_rows,
        dilation,
        left,
        right,
        (pad_left, pad_right),
        (start + pad_left).tolist(),
        np.where(index == device, first, num_rows).tolist(),
        length,
        skip.tolist(),
        num_dilated,
    )


def _slide(
    function: Callable,
    fill: np.generic,
    arrays: Sequence[jax.Array],
    windows: Sequence[Window],
    dim: int,
    mesh_axis: str | tuple[str, ...],
) -> jax.Array:
    """Runs `function(images, windows, *kernels)` on the rows of each device's windows.

    `arrays` are the images and the kernels.
    """
    images, *kernels = arrays
    if len(windows) != images.ndim - 2:
        raise ValueError(f"{len(windows)} windows for the spatial dimensions of {images.shape}")
    dim = dim % images.ndim
    if dim < 2:
        raise ValueError(f"dimension {dim} of {images.shape} is not a spatial one")
    sizes, parts = images.shape[2:], num_parts(mesh_axis)
    windows = [replace(w, padding=w.pad(size)) for w, size in zip(windows, sizes, strict=True)]
    window, num_rows = windows[dim - 2], images.shape[dim]
    if num_rows < 1 or window.count(num_rows) < 1:
        raise ValueError(f"{window} doesn't fit {num_rows} rows")
    plan = plan_halo(window, num_rows, parts)
    windows[dim - 2] = replace(window, padding=(0, 0), base_dilation=1)

    def slide(part_id, images, *kernels):
        rows = exchange_halo(images, dim, mesh_axis, plan.left, plan.right)
        return function(_find_rows(rows, dim, part_id, plan, fill), windows, *kernels)

    slide = map_split(slide, (dim,) + (None,) * len(kernels), dim, mesh_axis)
    outputs = slide(pad_to(images, dim, parts), *kernels)
    return lax.slice_in_dim(outputs, 0, window.count(num_rows), axis=dim)


def _find_rows(rows, dim, part_id, plan, fill):
    """Returns the dilated rows that a part's windows span, `fill` outside the image.

    `rows` are the part with its halos.
    """
    padding = [(0, 0, 0)] * rows.ndim
    padding[dim] = (*plan.pad, 0)
    rows = lax.pad(rows, fill, padding)
    rows = _slice(rows, dim, plan.start, part_id, plan.num_rows)
    first = jnp.asarray(plan.first)[part_id]
    row = first + lax.broadcasted_iota(jnp.int32, rows.shape, dim)
    rows = jnp.where((row >= 0) & (row < plan.image_rows), rows, fill)
    padding[dim] = (0, plan.dilation - 1, plan.dilation - 1)
    return _slice(lax.pad(rows, fill, padding), dim, plan.skip, part_id, plan.num_dilated)


def _slice(x, dim, starts, part_id, size):
    """Slices from `starts[part_id]`; a common start needs no DynamicSlice."""
    if len(set(starts)) == 1:
        return lax.slice_in_dim(x, starts[0], starts[0] + size, axis=dim)
    return lax.dynamic_slice_in_dim(x, jnp.asarray(starts)[part_id], size, axis=dim)


def _dilate(num_rows: int, dilation: int) -> int:
    return max((num_rows - 1) * dilation + 1, 0)
