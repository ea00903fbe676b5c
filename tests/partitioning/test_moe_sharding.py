"""A minimal MoE layer on eight devices: the result of one device, by two all-to-alls."""
# SPDX-License-Identifier: Apache-2.0

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.partitioning.annotate import shard
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import place
from gshard_mt.routing.capacity import expert_capacity
from gshard_mt.routing.dispatch import DISPATCHES
from gshard_mt.routing.gates.top2 import top2

G, S, E, M, H = 16, 32, 8, 16, 24
C = expert_capacity(S, E, 2.0)
LETTERS = {"gate_ME": "", "wi_EMH": "EMH", "wo_EHM": "EHM"}  # the paper replicates the gate
# The einsum form on one mesh only, for the time its compilation takes.
CASES = [("slots", (1, 8)), ("slots", (2, 4)), ("slots", (8, 1)), ("einsum", (2, 4))]
COLLECTIVE = re.compile(
    r"= .*? (all-to-all|all-gather|all-reduce|collective-permute|reduce-scatter)(?:-start)?\("
)


def moe_layer(params, x_GSM, is_token_GS, key, form):
    """The paper's Algorithm 2 with its three annotations, and those that XLA wants besides."""
    x_GSM = shard(x_GSM, "GSM")
    logits_GSE = shard(jnp.einsum("GSM,ME->GSE", x_GSM, params["gate_ME"]), "GSE")
    routing = top2(logits_GSE, is_token_GS, C, key)
    x_GECM = shard(DISPATCHES[form].dispatch(x_GSM, routing, E, C), "GECM")
    x_EGCM = shard(x_GECM.swapaxes(0, 1), "EGCM")
    x_EPM = x_EGCM.reshape(E, G * C, M)  # an einsum with two free axes is slow on the CPU
    h_EPH = jax.nn.relu(jnp.einsum("EPM,EMH->EPH", x_EPM, params["wi_EMH"]))
    y_EPM = jnp.einsum("EPH,EHM->EPM", h_EPH, params["wo_EHM"])
    y_EGCM = shard(y_EPM.reshape(E, G, C, M), "EGCM")  # before the transposition, see house rules
    y_GECM = shard(y_EGCM.swapaxes(0, 1), "GECM")
    return shard(DISPATCHES[form].combine(y_GECM, routing), "GSM"), routing


def outputs_and_gradients(params, x_GSM, is_token_GS, key, form):
    def loss(params, x_GSM):
        y_GSM, routing = moe_layer(params, x_GSM, is_token_GS, key, form)
        return jnp.sum(y_GSM * jnp.cos(y_GSM)) / y_GSM.size + routing.aux_loss, (y_GSM, routing)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x_GSM)


def make_arguments():
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        "gate_ME": jax.random.normal(keys[0], (M, E)) / 4,
        "wi_EMH": jax.random.normal(keys[1], (E, M, H)) / 4,
        "wo_EHM": jax.random.normal(keys[2], (E, H, M)) / 5,
    }
    x_GSM = jax.random.normal(keys[3], (G, S, M))
    is_token_GS = jnp.broadcast_to(jnp.arange(S) < S - 3, (G, S))
    return params, x_GSM, is_token_GS, keys[4]


def place_arguments(mesh):
    params, x_GSM, is_token_GS, key = make_arguments()
    params = {name: place(params[name], LETTERS[name], mesh) for name in params}
    return params, place(x_GSM, "GSM", mesh), place(is_token_GS, "GS", mesh), key


def compile_forward(form, shape):
    mesh = build_mesh(*shape)
    with jax.set_mesh(mesh):
        layer = jax.jit(moe_layer, static_argnames="form")
        return layer.lower(*place_arguments(mesh), form=form).compile().as_text()


def find_collectives(text):
    """Returns (kind, largest array in elements) of each collective of a compiled program."""
    found = []
    for line in text.splitlines():
        if match := COLLECTIVE.search(line):
            result = line[: match.start(1)].split("=", 1)[1]
            sizes = [
                np.prod([int(n) for n in dims.split(",") if n], dtype=int)
                for dims in re.findall(r"\w+\[([\d,]*)\]", result)
            ]
            found.append((match.group(1), max(sizes)))
    return found


@functools.cache
def result_of_one_device(form):
    return jax.jit(outputs_and_gradients, static_argnames="form")(*make_arguments(), form=form)


@pytest.mark.parametrize(("form", "shape"), CASES)
def test_eight_devices_give_the_result_of_one(form, shape):
    mesh = build_mesh(*shape)
    with jax.set_mesh(mesh):
        step = jax.jit(outputs_and_gradients, static_argnames="form")
        actual = step(*place_arguments(mesh), form=form)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        actual,
        result_of_one_device(form),
    )


@pytest.mark.parametrize(("form", "shape"), CASES)
def test_the_forward_has_two_all_to_alls_and_otherwise_only_sums_of_counters(form, shape):
    collectives = find_collectives(compile_forward(form, shape))
    all_to_alls = [kind for kind, _ in collectives if kind == "all-to-all"]
    assert len(all_to_alls) == (2 if shape[1] > 1 else 0)
    for kind, size in collectives:
        assert kind in ("all-to-all", "all-reduce")
        assert kind == "all-to-all" or size <= 2  # the loss and the counters


@pytest.mark.parametrize("shape", [(1, 8), (2, 4)])
def test_training_has_four_all_to_alls_and_gathers_no_array(shape):
    mesh = build_mesh(*shape)
    with jax.set_mesh(mesh):
        step = jax.jit(outputs_and_gradients, static_argnames="form")
        text = step.lower(*place_arguments(mesh), form="slots").compile().as_text()
    collectives = find_collectives(text)
    assert sum(kind == "all-to-all" for kind, _ in collectives) == 4
    assert {kind for kind, _ in collectives} == {"all-to-all", "all-reduce"}
    # Gradients of experts are summed over the data axis only: never more than a device's own.
    assert max(size for kind, size in collectives if kind == "all-reduce") <= E * M * H // shape[1]
