"""Counts the FLOPs of a traced program: multiplications and additions of its matrix products."""
# SPDX-License-Identifier: Apache-2.0

import math
from typing import Any

from jax.extend.core import Jaxpr, jaxprs_in_params


def count_flops(jaxpr: Jaxpr) -> float:
    """Returns the FLOPs of all matrix products on all devices together.

    The body of a scan counts once per iteration, and recomputation in the backward pass counts
    again. Elementwise work is not counted, nor are the repetitions of a loop of unknown length.
    """
    return sum(_flops_of(equation) for equation in jaxpr.eqns)


def _flops_of(equation: Any) -> float:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        summed = math.prod(shape[axis] for axis in contracted)
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * summed
    if name.startswith("ragged_dot"):
        rows, weights = (equation.invars[n].aval.shape for n in (0, 1))
        return 2.0 * math.prod(rows) * weights[-1]
    if name == "pallas_call":  # a kernel runs once for every part of its grid, and says so itself
        return float(equation.params["cost_estimate"].flops)
    inner = sum(count_flops(jaxpr) for jaxpr in jaxprs_in_params(equation.params))
    if name == "scan":
        return inner * equation.params["length"]
    if name == "shard_map":  # shapes inside are those of one device
        mesh = equation.params["mesh"]
        return inner * math.prod(mesh.shape[axis] for axis in equation.params["newly_manual_axes"])
    return inner
