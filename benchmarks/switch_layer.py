"""Our MoE layer against Hugging Face's Switch layer: same weights, same routing, same output.

    pip install torch transformers
    python -m benchmarks.switch_layer [--experts 8 64] [--rows 8] [--row_length 512] [--repeats 7]

Prints JSON rows: median seconds of forward and all gradients (input, router, experts) on a CPU, and
their ratio to transformers' `SwitchTransformersSparseMLP` (eager PyTorch), which is run with the
capacity of each of our forms. All programs of one size run in turn, on all cores. A small size
comes first, to compare numbers rather than times.

Both send a token to its most likely expert, by a float32 router, and multiply the expert's output
by the probability; neither has biases, and jitter, dropout and auxiliary losses are left out. A
batch row is a group: each expert takes the first C tokens of the row that choose it. C is
1.25 * S / E for `slots` and S for `dropless`, which drops nothing. A token over the capacity gets
zeros on both sides, so all tokens are compared. This holds from transformers 5.18 on: 5.0 to 5.17
ignored the capacity, and until 4.51 such a token became its input times its probability.

`max_difference` is that of the outputs; above 1e-5 the program ends with status 2 and no times.
`gradient_difference` is the largest relative distance (2-norm) of a gradient, accepted up to 1e-3:
where rounding flips the sign of a hidden unit, its whole gradient appears or vanishes.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import functools
import importlib
import json
import os
import sys
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.machine import describe_machine
from benchmarks.moe_layer import time_in_turn
from gshard_mt.config.records import ModelConfig, MoeConfig
from gshard_mt.model.layers import key_stream
from gshard_mt.model.moe import Groups, MixtureOfExperts, Tokens, group_capacity

GROUPS = Groups(size=None, capacity_factor=1.25)  # every row is a group
ROOM = {"slots": GROUPS, "dropless": GROUPS._replace(no_drop=True)}
SWITCH = "transformers.models.switch_transformers"
MIN_VERSION = (5, 18)
ACCEPTED = {"max_difference": 1e-5, "gradient_difference": 1e-3}


class Size(NamedTuple):
    """One comparison's sizes: B rows of L tokens, E experts of widths M and H."""

    num_rows: int
    row_length: int
    num_experts: int
    model_dim: int = 256
    ffn_dim: int = 1024


class Result(NamedTuple):
    """The outputs of either side, as NumPy arrays in our layout."""

    y_BLM: Any
    dx_BLM: Any
    gradients: dict[str, Any]  # of wg_ME, wi_EMH, wo_EHM


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--row_length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    torch, transformers = import_both()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    versions = {
        module.__name__: str(module.__version__) for module in (jax, torch, transformers)
    } | describe_machine()
    sizes = [Size(4, 64, 8, 16, 32)]
    sizes += [Size(flags.rows, flags.row_length, num_experts) for num_experts in flags.experts]
    for size in sizes:
        for row in compare(torch, size, flags.repeats):
            print(json.dumps({"benchmark": "switch_layer"} | row | versions), flush=True)


def import_both() -> tuple[Any, Any]:
    """Returns torch and transformers, which the project does not depend on.

    PyTorch's threads are made to sleep while waiting: spinning, they slow down each other on a
    busy machine (a step took ten times as long) and the program whose turn it is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded
    try:
        torch, transformers = (importlib.import_module(m) for m in ("torch", "transformers"))
    except ModuleNotFoundError as error:
        refuse(f"{error.name}: not installed; pip install torch transformers")
    if tuple(int(part) for part in transformers.__version__.split(".")[:2]) < MIN_VERSION:
        refuse(
            f"transformers: found {transformers.__version__}, accepted: 5.18 or later, which obeys "
            "the capacity; pip install --upgrade transformers"
        )
    return torch, transformers


def refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def compare(torch, size: Size, num_repeats: int):
    """Yields a row for each of our forms, each after the row of transformers."""
    x_BLM, dy_BLM = (
        jax.random.normal(key, (size.num_rows, size.row_length, size.model_dim))
        for key in jax.random.split(jax.random.key(0))
    )
    programs, rows = {}, {}
    for form, groups in ROOM.items():
        layer = make_layer(size, form)
        capacity = group_capacity(layer.config, groups, size.row_length)
        ours = make_ours(layer, x_BLM, dy_BLM)
        theirs = make_theirs(torch, layer, capacity, x_BLM, dy_BLM)
        found, wanted = ours_as_numpy(ours()), theirs_as_numpy(theirs(), size.num_experts)
        differences = measure_differences(found, wanted)
        for name, limit in ACCEPTED.items():
            if not differences[name] <= limit:
                found_it = f"{form}, {size}: {name}: found {differences[name]}"
                refuse(f"{found_it}, accepted: at most {limit}")
        programs |= {form: ours, f"transformers, {form}": theirs}
        rows[form] = {
            "experts": size.num_experts,
            "tokens": size.num_rows * size.row_length,
            "model_dim": size.model_dim,
            "ffn_dim": size.ffn_dim,
            "group_size": size.row_length,
            "capacity": capacity,
            "dropped": float(np.mean(np.all(wanted.y_BLM == 0, axis=-1))),
        } | differences
    seconds = time_in_turn(programs, num_repeats)
    for form, fields in rows.items():
        base = seconds[f"transformers, {form}"]
        for name, value in (("transformers", base), (form, seconds[form])):
            times = {"seconds": round(value, 4), "ratio": round(value / base, 3)}
            yield {"form": name} | fields | times


def make_layer(size: Size, form: str) -> MixtureOfExperts:
    moe = MoeConfig(size.num_experts, "top1", dispatch=form, capacity_factor=GROUPS.capacity_factor)
    config = ModelConfig(model_dim=size.model_dim, ffn_dim=size.ffn_dim, moe=moe)
    sizes = {"M": size.model_dim, "H": size.ffn_dim, "E": size.num_experts}
    return MixtureOfExperts(config, sizes, key_stream(jax.random.key(0)), moe.gate)


def make_ours(layer: MixtureOfExperts, x_BLM, dy_BLM):
    """Returns a function without arguments that runs forward and all gradients."""
    graphdef, state = nnx.split(layer)
    params = nnx.to_pure_dict(state)
    zeros_BL = jnp.zeros(x_BLM.shape[:2], jnp.int32)
    tokens = Tokens(zeros_BL, zeros_BL + 1, zeros_BL, zeros_BL)

    def run(params, x_BLM, dy_BLM):
        y_BLM, pull_back = jax.vjp(
            lambda params, x_BLM: nnx.merge(graphdef, params)(x_BLM, tokens, GROUPS, None)[0],
            params,
            x_BLM,
        )
        return y_BLM, pull_back(dy_BLM)

    compiled = jax.jit(run).lower(params, x_BLM, dy_BLM).compile()
    return functools.partial(compiled, params, x_BLM, dy_BLM)


def make_theirs(torch, layer: MixtureOfExperts, capacity: int, x_BLM, dy_BLM):
    """Returns the same for transformers' layer with the weights of `layer`."""
    params = jax.device_get(nnx.to_pure_dict(nnx.state(layer)))
    wg_ME, wi_EMH, wo_EHM = (params[name] for name in ("wg_ME", "wi_EMH", "wo_EHM"))
    num_experts, model_dim, ffn_dim = wi_EMH.shape
    config = importlib.import_module(f"{SWITCH}.configuration_switch_transformers")
    modeling = importlib.import_module(f"{SWITCH}.modeling_switch_transformers")
    switch = modeling.SwitchTransformersSparseMLP(
        config.SwitchTransformersConfig(
            d_model=model_dim,
            d_ff=ffn_dim,
            num_experts=num_experts,
            expert_capacity=capacity,
            dense_act_fn="relu",
            router_dtype="float32",
            router_bias=False,
        )
    ).eval()  # neither jitter nor dropout
    weights = {"router.classifier.weight": wg_ME.T}
    for e in range(num_experts):
        weights[f"experts.expert_{e}.wi.weight"] = wi_EMH[e].T
        weights[f"experts.expert_{e}.wo.weight"] = wo_EHM[e].T
    switch.load_state_dict({name: torch.tensor(weight) for name, weight in weights.items()})
    x_BLM = torch.tensor(np.asarray(x_BLM), requires_grad=True)
    dy_BLM = torch.tensor(np.asarray(dy_BLM))
    names, parameters = zip(*switch.named_parameters(), strict=True)

    def run():
        y_BLM = switch(x_BLM)
        # An expert without tokens is not in the graph.
        gradients = torch.autograd.grad(
            y_BLM, [x_BLM, *parameters], dy_BLM, allow_unused=True, materialize_grads=True
        )
        return y_BLM, gradients[0], dict(zip(names, gradients[1:], strict=True))

    return run


def ours_as_numpy(outputs) -> Result:
    y_BLM, (gradients, dx_BLM) = jax.device_get(outputs)
    return Result(y_BLM, dx_BLM, gradients)


def theirs_as_numpy(outputs, num_experts: int) -> Result:
    y_BLM, dx_BLM, gradients = outputs

    def stack(name: str):
        return np.stack(
            [gradients[f"experts.expert_{e}.{name}.weight"].numpy().T for e in range(num_experts)]
        )

    router = gradients["router.classifier.weight"].numpy().T
    by_letters = {"wg_ME": router, "wi_EMH": stack("wi"), "wo_EHM": stack("wo")}
    return Result(y_BLM.detach().numpy(), dx_BLM.numpy(), by_letters)


def measure_differences(found: Result, wanted: Result) -> dict[str, float]:
    pairs = [(found.dx_BLM, wanted.dx_BLM)]
    pairs += [(found.gradients[name], wanted.gradients[name]) for name in wanted.gradients]
    distances = [np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) for ours, theirs in pairs]
    return {
        "max_difference": float(np.abs(found.y_BLM - wanted.y_BLM).max()),
        "gradient_difference": float(max(distances)),
    }


if __name__ == "__main__":
    main()
