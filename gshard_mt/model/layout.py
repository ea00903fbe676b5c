"""The layout of an exported model: one array per layer and weight, named by module and axes."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gshard_mt.partitioning.axes import letters_of

_STACKS = ("encoder", "decoder")


class Tensor(NamedTuple):
    """One exported array; its name ends in the letters of its axes."""

    name: str  # `encoder.layers.3.self_attention.wq_MND`
    shape: tuple[int, ...]
    leaf: int  # the parameter that holds it, in the order of the tree's leaves
    block: int | None  # its index on that parameter's axis P, None if there is no such axis


def lay_out(params: Any) -> list[Tensor]:
    """Returns all arrays of a model's parameters, those of one parameter next to each other.

    The axis of depth is split: layer `i` of a stack of blocks of `n` layers each is layer `i % n`
    of block `i // n`. So in a model with experts the even layers are sparse.
    """
    tensors = []
    for leaf, (path, like) in enumerate(jax.tree.flatten_with_path(params)[0]):
        keys = [entry.key for entry in path]
        if keys[-1].startswith("values_"):
            keys.pop()  # a quantized weight has the name of the weight, and its scale is below it
        if keys[0] not in _STACKS:
            tensors.append(Tensor(".".join(keys), like.shape, leaf, None))
            continue
        stack, _, layer, *rest = keys
        num_layers = len(params[stack]["layers"])
        for block in range(like.shape[0]):
            name = ".".join([stack, "layers", str(block * num_layers + int(layer)), *rest])
            tensors.append(Tensor(name, like.shape[1:], leaf, block))
    return tensors


def assemble(params: Any, arrays: Iterable[np.ndarray]) -> Any:
    """Returns parameters made of the arrays of their layout, in its order.

    They are placed as `params`, shapes with shardings; one parameter is held on the host at a time.
    """
    likes, structure = jax.tree.flatten(params)
    arrays = iter(arrays)
    leaves = []
    for leaf, parts in itertools.groupby(lay_out(params), key=lambda tensor: tensor.leaf):
        found = [next(arrays) for _ in parts]
        whole = np.stack(found) if likes[leaf].ndim > found[0].ndim else found[0]
        leaves.append(
            jax.make_array_from_callback(
                whole.shape, likes[leaf].sharding, lambda index, whole=whole: whole[index]
            )
        )
    return jax.tree.unflatten(structure, leaves)


def describe(tensors: Sequence[Tensor]) -> list[tuple[str, str, str]]:
    """Returns rows of name, letters and shape; equal layers share a row: `layers.{0,2}`."""
    rows: dict[tuple[str, str], list[int]] = {}
    for tensor in tensors:
        pattern = re.sub(r"layers\.\d+\.", "layers.{}.", tensor.name)
        layers = rows.setdefault((pattern, " x ".join(map(str, tensor.shape))), [])
        layers += [int(number) for number in re.findall(r"layers\.(\d+)\.", tensor.name)]
    return [
        (
            pattern.replace("{}", "{" + ",".join(map(str, sorted(layers))) + "}"),
            letters_of(pattern),
            shape,
        )
        for (pattern, shape), layers in rows.items()
    ]
