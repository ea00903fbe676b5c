"""How much an MoE layer costs on one device against a dense feed-forward doing the same work.

    python -m benchmarks.moe_layer [--experts 8 64 256] [--forms slots einsum] [--repeats 7]

Prints JSON rows: median seconds of forward and all gradients, outputs included, over the dense
layer's. Dense is the same number of rows (tokens * 2 choices) through one pair of weights. All
programs of one number of experts run in turn, so that a slow minute of the machine hits all alike.
`experts_only` is the batched expert matmuls without routing, `gate_only` the gate without experts.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp

from benchmarks.machine import describe_machine
from gshard_mt.routing.capacity import expert_capacity
from gshard_mt.routing.dispatch import DISPATCHES
from gshard_mt.routing.gating import top2

NUM_TOKENS, MODEL_DIM, FFN_DIM, NUM_CHOICES = 16_384, 256, 1024, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--forms", nargs="+", choices=sorted(DISPATCHES), default=["slots"])
    parser.add_argument("--group_size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    machine = describe_machine()
    for num_experts in flags.experts:
        programs = make_programs(num_experts, flags.group_size, flags.forms)
        seconds = time_in_turn(programs, flags.repeats)
        for form, value in seconds.items():
            row = {
                "benchmark": "moe_layer",
                "form": form,
                "experts": num_experts,
                "group_size": flags.group_size,
                "seconds": round(value, 4),
                "ratio_to_dense": round(value / seconds["dense"], 3),
            }
            print(json.dumps(row | machine), flush=True)


def make_programs(num_experts, group_size, forms):
    """Returns name -> a function without arguments that runs forward and all gradients."""
    num_groups = NUM_TOKENS // group_size
    capacity = expert_capacity(group_size, num_experts, float(NUM_CHOICES))
    keys = iter(jax.random.split(jax.random.key(0), 12))

    def random(*shape):
        return jax.random.normal(next(keys), shape) / shape[-2] ** 0.5

    gate_ME = random(MODEL_DIM, num_experts)
    wi_EMH = random(num_experts, MODEL_DIM, FFN_DIM)
    wo_EHM = random(num_experts, FFN_DIM, MODEL_DIM)
    x_GSM = random(num_groups, group_size, MODEL_DIM) * group_size**0.5
    is_token_GS = jnp.ones((num_groups, group_size), bool)
    x_EPM = random(num_experts, num_groups * capacity, MODEL_DIM)

    def gate(x_GSM, gate_ME):
        return top2(jnp.einsum("GSM,ME->GSE", x_GSM, gate_ME), is_token_GS, capacity, None)

    def gate_only(x_GSM, gate_ME):
        routing = gate(x_GSM, gate_ME)
        return routing.weight_GSK, routing.aux_loss

    def layer(form, x_GSM, gate_ME, wi_EMH, wo_EHM):
        routing = gate(x_GSM, gate_ME)
        x_GECM = form.dispatch(x_GSM, routing, num_experts, capacity)
        x_EPM = x_GECM.swapaxes(0, 1).reshape(num_experts, -1, MODEL_DIM)
        y_EGCM = experts(x_EPM, wi_EMH, wo_EHM).reshape(num_experts, num_groups, capacity, -1)
        return form.combine(y_EGCM.swapaxes(0, 1), routing), routing.aux_loss

    programs = {
        "dense": both_ways(
            experts,
            random(1, NUM_TOKENS * NUM_CHOICES, MODEL_DIM),
            random(1, MODEL_DIM, FFN_DIM),
            random(1, FFN_DIM, MODEL_DIM),
        ),
        "experts_only": both_ways(experts, x_EPM, wi_EMH, wo_EHM),
        "gate_only": both_ways(gate_only, x_GSM, gate_ME),
    }
    for name in forms:
        form = DISPATCHES[name]
        programs[name] = both_ways(
            lambda *arguments, form=form: layer(form, *arguments), x_GSM, gate_ME, wi_EMH, wo_EHM
        )
    return programs


def experts(x_EPM, wi_EMH, wo_EHM):
    h_EPH = jax.nn.relu(jnp.einsum("EPM,EMH->EPH", x_EPM, wi_EMH))
    return jnp.einsum("EPH,EHM->EPM", h_EPH, wo_EHM)


def both_ways(function, *arguments):
    """Returns a run of `function` and its gradients; what is not returned would not be computed."""

    def run(arguments, cotangents):
        outputs, pull_back = jax.vjp(function, *arguments)
        return outputs, pull_back(cotangents)

    shapes = jax.eval_shape(function, *arguments)
    cotangents = jax.tree.map(
        lambda y: jax.random.normal(jax.random.key(1), y.shape, y.dtype), shapes
    )
    compiled = jax.jit(run).lower(arguments, cotangents).compile()
    return lambda: compiled(arguments, cotangents)


def time_in_turn(programs, num_repeats):
    """Returns the median seconds of each program; the first round is not counted."""
    seconds = {name: [] for name in programs}
    for _ in range(num_repeats + 1):
        for name, run in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
