"""Weights of 8 bits for decoding: a scale for each output channel, activations quantized by row.

XLA:CPU hands products of integers to oneDNN, which with VNNI or AMX instructions computes them
several times as fast as products in float32.
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, register_pytree_with_keys_class

from gshard_mt.partitioning.axes import SUMMED, letters_of, scale_letters

_LARGEST = 127  # of the integers; -128 is not used
_INSTRUCTIONS = {"avx_vnni", "avx512_vnni", "amx_int8"}  # as Linux calls them


@register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Quantized:
    """A weight in the place of a float array: int8 `values` times `scale`.

    The scale has the axes of the weight that no product sums over, and both may have leading axes
    such as that of depth. `letters` are those of the weight.
    """

    values: jax.Array
    scale: jax.Array
    letters: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, index: Any) -> Any:
        """Returns the weight itself for `...`, for other indices rows of a table in float32."""
        if index is ...:
            return self
        return self.values[index].astype(jnp.float32) * self.scale[index][..., None]

    def tree_flatten_with_keys(self):
        """Returns both arrays under names that end in their letters, as parameters have them."""
        letters = self.letters
        values = DictKey(f"values_{letters}"), self.values
        return (values, (DictKey(f"scale_{scale_letters(letters)}"), self.scale)), letters

    @classmethod
    def tree_unflatten(cls, letters: str, children: tuple[Any, Any]) -> "Quantized":
        return cls(*children, letters)


@functools.cache
def has_fast_integers() -> bool:
    """Returns whether the CPU has instructions for sums of products of 8-bit integers."""
    try:
        found = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return not _INSTRUCTIONS.isdisjoint(re.findall(r"\w+", found))


def quantize(x: jax.typing.ArrayLike, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns int8 values, rounded to nearest, and the float32 scale that `axes` share.

    The scale has lost these axes.
    """
    x = jnp.asarray(x, jnp.float32)
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    inverse = jnp.where(largest > 0, _LARGEST / jnp.maximum(largest, 1e-30), 0.0)
    return jnp.round(x * inverse).astype(jnp.int8), jnp.squeeze(largest, axes) / _LARGEST


def quantize_weight(w: jax.Array | np.ndarray, letters: str) -> Quantized:
    """Quantizes a weight whose last axes are `letters`, one of the keys of `SUMMED`."""
    first = w.ndim - len(letters)
    axes = tuple(first + letters.index(letter) for letter in SUMMED[letters])
    return Quantized(*quantize(w, axes), letters)


def quantize_params(params: Any) -> Any:
    """Quantizes the weights of a model; those of gates and norms stay as they are."""

    def quantized(path: tuple, w: jax.Array) -> Any:
        letters = letters_of(path[-1].key)
        return quantize_weight(w, letters) if letters in SUMMED else w

    return jax.tree.map_with_path(quantized, params)


def letters_in(w: jax.Array | Quantized, letters: str) -> Any:
    """Returns the letters of a weight: of each of its arrays if it is quantized."""
    if isinstance(w, Quantized):
        return jax.tree.map_with_path(lambda path, _: letters_of(path[-1].key), w)
    return letters


def quantized_product(spec: str, x: jax.Array, w: Quantized) -> jax.Array:
    """Returns the einsum of x and a quantized weight in float32; its sums are those of integers."""
    letters_x, letters_w, letters_y = spec.replace("->", ",").split(",")
    axes = tuple(i for i, letter in enumerate(letters_x) if letter not in letters_y)
    values, scale = quantize(x, axes)
    y = jnp.einsum(spec, values, w.values, preferred_element_type=jnp.int32)
    left = _expanded(scale, [c for c in letters_x if c in letters_y], letters_y)
    right = _expanded(w.scale, [c for c in letters_w if c in letters_y], letters_y)
    return y.astype(jnp.float32) * left * right


def _expanded(scale: jax.Array, letters: list[str], letters_y: str) -> jax.Array:
    """Returns a scale with the axes of the result, of size 1 where it has none."""
    order = [letters.index(letter) for letter in letters_y if letter in letters]
    missing = [i for i, letter in enumerate(letters_y) if letter not in letters]
    return jnp.expand_dims(scale.transpose(order), missing)
