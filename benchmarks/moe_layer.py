"""Cost of an MoE layer on one device relative to a dense feed-forward with the same work.

    python -m benchmarks.moe_layer [--experts 8 64 256] [--forms slots einsum dropless] [...]

Prints JSON rows with the median seconds of forward and all gradients, and their ratio to the dense
layer, which sends the same number of rows (tokens * 2 choices) through one pair of weights. All
programs for one number of experts run in turn, so that a slow minute of the machine hits all alike.
`experts_only` is the batched expert matmuls without routing, `gate_only` the gate without experts.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import absl.flags
import jax
import jax.numpy as jnp

from benchmarks.machine import describe_machine
from gshard_mt.cli.startup.memory import keep_buffers
from gshard_mt.model.layers import contract
from gshard_mt.partitioning.annotate import platform
from gshard_mt.routing.capacity import expert_capacity
from gshard_mt.routing.dispatch import DISPATCHES
from gshard_mt.routing.dropless import sort_choices
from gshard_mt.routing.gates.top2 import top2
from gshard_mt.routing.gathers import permute_tokens, unpermute_outputs
from gshard_mt.routing.grouped_product import grouped_product
from gshard_mt.routing.routing import GateInputs
from gshard_mt.routing.strategies import DROPLESS

NUM_CHOICES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 64, 256])
    forms = [*sorted(DISPATCHES), DROPLESS]
    parser.add_argument("--forms", nargs="+", choices=forms, default=["slots", DROPLESS])
    parser.add_argument("--group_size", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--model_dim", type=int, default=256)
    parser.add_argument("--ffn_dim", type=int, default=1024)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    absl.flags.FLAGS.mark_as_parsed()
    # As the commands do for such weights.
    keep_buffers(4 * max(flags.experts) * flags.model_dim * flags.ffn_dim)
    machine = describe_machine()
    for num_experts in flags.experts:
        sizes = Sizes(
            num_experts,
            flags.group_size,
            flags.tokens,
            flags.model_dim,
            flags.ffn_dim,
            flags.dtype,
        )
        for row in layer_rows(sizes, flags.forms, flags.repeats):
            print(json.dumps(row | machine), flush=True)


class Sizes(NamedTuple):
    """What is timed; letters are the paper's."""

    num_experts: int  # E
    group_size: int  # S
    num_tokens: int
    model_dim: int  # M
    ffn_dim: int  # H
    dtype: str


class Program(NamedTuple):
    """A compiled program with its arguments."""

    run: Callable[[], Any]
    temporary_bytes: int


def layer_rows(sizes: Sizes, forms: Sequence[str], num_repeats: int) -> Iterator[dict]:
    """Times the layer in its forms, forward and all gradients, and yields a row of each."""
    programs = make_programs(sizes, forms)
    seconds = time_in_turn({name: each.run for name, each in programs.items()}, num_repeats)
    # Multiplications and additions of both matrices, forward and two gradients.
    flops = 12 * sizes.num_tokens * NUM_CHOICES * sizes.model_dim * sizes.ffn_dim
    for form, value in seconds.items():
        row = {
            "benchmark": "moe_layer",
            "form": form,
            "experts": sizes.num_experts,
            "group_size": sizes.group_size,
            "dtype": sizes.dtype,
            "seconds": round(value, 5),
            "ratio_to_dense": round(value / seconds["dense"], 3),
            "tflops_per_second": round(flops / value / 1e12, 3),
            "temporary_mib": round(programs[form].temporary_bytes / 2**20, 1),
        }
        if form == "gate_only":
            del row["tflops_per_second"]
        yield row


def make_programs(sizes: Sizes, forms: Sequence[str]) -> dict[str, Program]:
    """Returns the programs that run forward and all gradients, by form."""
    num_experts, model_dim = sizes.num_experts, sizes.model_dim
    num_groups, dtype = sizes.num_tokens // sizes.group_size, jnp.dtype(sizes.dtype)
    capacity = expert_capacity(sizes.group_size, num_experts, float(NUM_CHOICES))
    keys = iter(jax.random.split(jax.random.key(0), 12))

    def random(*shape):
        return (jax.random.normal(next(keys), shape) / shape[-2] ** 0.5).astype(dtype)

    gate_ME = random(model_dim, num_experts).astype(jnp.float32)
    wi_EMH = random(num_experts, model_dim, sizes.ffn_dim)
    wo_EHM = random(num_experts, sizes.ffn_dim, model_dim)
    x_GSM = random(num_groups, sizes.group_size, model_dim)
    token_id_GS = jnp.ones((num_groups, sizes.group_size), jnp.int32)
    x_ERM = random(num_experts, num_groups * capacity, model_dim)

    def gate(x_GSM, gate_ME, capacity):
        logits_GSE = jnp.einsum("GSM,ME->GSE", x_GSM.astype(jnp.float32), gate_ME)
        return top2(GateInputs(logits_GSE, token_id_GS > 0, token_id_GS, capacity, None))

    def gate_only(x_GSM, gate_ME):
        routing = gate(x_GSM, gate_ME, capacity)
        return routing.weight_GSK, routing.aux_loss

    def with_slots(form, x_GSM, gate_ME, wi_EMH, wo_EHM):
        routing = gate(x_GSM, gate_ME, capacity)
        x_GECM = form.dispatch(x_GSM, routing, num_experts, capacity)
        x_ERM = x_GECM.swapaxes(0, 1).reshape(num_experts, -1, model_dim)
        y_EGCM = experts(x_ERM, wi_EMH, wo_EHM).reshape(num_experts, num_groups, capacity, -1)
        return form.combine(y_EGCM.swapaxes(0, 1), routing), routing.aux_loss

    def dropless(x_GSM, gate_ME, wi_EMH, wo_EHM):
        routing = gate(x_GSM, gate_ME, sizes.group_size)
        expert_SK, weight_SK = (
            array.reshape(-1, NUM_CHOICES) for array in (routing.expert_GSK, routing.weight_GSK)
        )
        choices = sort_choices(expert_SK, weight_SK > 0, num_experts)
        tables = (choices.row_SK[None], choices.choice_R[None])
        x_RM = permute_tokens(x_GSM.reshape(1, -1, model_dim), *tables)[0]
        multiply = functools.partial(grouped_product, size_E=choices.size_E, platform=platform())
        h_RH = jax.nn.relu(multiply(x_RM, wi_EMH).astype(dtype))
        y_RM = multiply(h_RH, wo_EHM)
        y_SM = unpermute_outputs(y_RM[None], weight_SK[None], *tables)
        return y_SM.reshape(x_GSM.shape).astype(dtype), routing.aux_loss

    programs = {
        "dense": both_ways(
            experts,
            random(1, sizes.num_tokens * NUM_CHOICES, model_dim),
            random(1, model_dim, sizes.ffn_dim),
            random(1, sizes.ffn_dim, model_dim),
        ),
        "experts_only": both_ways(experts, x_ERM, wi_EMH, wo_EHM),
        "gate_only": both_ways(gate_only, x_GSM, gate_ME),
    }
    for name in forms:
        layer = dropless if name == DROPLESS else functools.partial(with_slots, DISPATCHES[name])
        programs[name] = both_ways(layer, x_GSM, gate_ME, wi_EMH, wo_EHM)
    return programs


def experts(x_ERM, wi_EMH, wo_EHM):
    dtype = x_ERM.dtype
    h_ERH = jax.nn.relu(contract("ERM,EMH->ERH", x_ERM, wi_EMH, dtype))
    return contract("ERH,EHM->ERM", h_ERH, wo_EHM, dtype)


def both_ways(function, *arguments) -> Program:
    """Compiles `function` and its gradients; XLA drops what isn't returned."""

    def run(arguments, cotangents):
        outputs, pull_back = jax.vjp(function, *arguments)
        return outputs, pull_back(cotangents)

    shapes = jax.eval_shape(function, *arguments)
    cotangents = jax.tree.map(
        lambda y: jax.random.normal(jax.random.key(1), y.shape, y.dtype), shapes
    )
    compiled = jax.jit(run).lower(arguments, cotangents).compile()
    memory: Any = compiled.memory_analysis()
    return Program(lambda: compiled(arguments, cotangents), memory.temp_size_in_bytes)


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
