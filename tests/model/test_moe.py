"""The MoE layer against a loop over tokens, and its communication and numbers on eight devices."""
# SPDX-License-Identifier: Apache-2.0

import collections
import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from gshard_mt.config import ModelConfig
from gshard_mt.model.blueprint import draw_blueprint
from gshard_mt.model.moe import Groups, MixtureOfExperts, decoding_groups, training_groups
from gshard_mt.model.transformer import Vocabulary
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.params import place
from gshard_mt.routing.gating import top2

SIZES = {"M": 16, "H": 24, "E": 8}
MESHES = [(1, 8), (2, 4)]
CONFIG = ModelConfig(
    model_dim=16,
    ffn_dim=24,
    num_experts=8,
    group_size=16,
    capacity_factor=1.5,
    expert_dropout_rate=0.2,
)


def make_layer(config: ModelConfig):
    graphdef, state = nnx.split(MixtureOfExperts(config, SIZES, nnx.Rngs(0)))
    params = nnx.to_pure_dict(state)
    params["wg_ME"] = 2.0 * params["wg_ME"]  # gates that decide
    return graphdef, params


def tokens(seed: int = 0):
    """x [16, 16, M], an eighth of it padding."""
    rng = np.random.default_rng(seed)
    x_BLM = rng.normal(size=(16, 16, 16)).astype(np.float32)
    return jnp.asarray(x_BLM), jnp.asarray(rng.random((16, 16)) > 1 / 8)


def run(graphdef, groups: Groups, params, x_BLM, is_token_BL, key):
    return nnx.merge(graphdef, params)(x_BLM, is_token_BL, groups, key)


@pytest.mark.parametrize("dispatch", ["slots", "einsum"])
@pytest.mark.parametrize("groups", [Groups(16, 1.0), Groups(64, 0.5), Groups(0, 8.0)])
def test_the_layer_is_a_weighted_sum_of_the_chosen_experts_token_by_token(dispatch, groups):
    graphdef, params = make_layer(dataclasses.replace(CONFIG, dispatch=dispatch))
    x_BLM, is_token_BL = tokens()
    y_BLM, sums = jax.jit(functools.partial(run, graphdef, groups))(
        params, x_BLM, is_token_BL, None
    )
    wg_ME, wi_EMH, wo_EHM = (np.asarray(params[name]) for name in ("wg_ME", "wi_EMH", "wo_EHM"))
    size = groups.size or 16
    x_GSM = np.asarray(x_BLM).reshape(-1, size, 16)
    capacity = min(size, int(groups.capacity_factor * size / 8))
    logits_GSE, is_token_GS = jnp.asarray(x_GSM @ wg_ME), is_token_BL.reshape(-1, size)
    routing = jax.jit(top2, static_argnums=2)(logits_GSE, is_token_GS, capacity, None)
    expert_GSK, weight_GSK = np.asarray(routing.expert_GSK), np.asarray(routing.weight_GSK)
    expected_GSM = np.zeros_like(x_GSM)
    for g, s in np.ndindex(x_GSM.shape[:2]):
        for expert, weight in zip(expert_GSK[g, s], weight_GSK[g, s], strict=True):
            h_H = np.maximum(x_GSM[g, s] @ wi_EMH[expert], 0)
            expected_GSM[g, s] += weight * (h_H @ wo_EHM[expert])
    np.testing.assert_allclose(y_BLM, expected_GSM.reshape(y_BLM.shape), rtol=1e-5, atol=1e-5)
    assert not np.any(np.asarray(y_BLM)[~np.asarray(is_token_BL)])
    np.testing.assert_allclose(sums.aux_loss, routing.aux_loss, rtol=1e-5)
    assert jax.device_get(sums.counters) == jax.device_get(routing.counters)
    # The capacity is felt, or large enough for everything.
    assert (sums.counters.num_over_capacity_1 > 0) == (groups.capacity_factor < 8)


def test_decoding_has_room_for_every_choice_and_no_group_but_the_sentence():
    assert training_groups(CONFIG) == Groups(16, 1.5)
    assert decoding_groups(CONFIG) == Groups(0, 8.0)


def on_mesh(mesh, params, x_BLM, is_token_BL):
    """Places the layer's arguments as training has them."""
    blueprint = draw_blueprint(CONFIG, Vocabulary(8, 8), mesh).params
    leaves = blueprint["encoder"]["layers"][0]["feed_forward"]
    assert leaves["wi_EMH"].sharding.spec == PartitionSpec(None, "expert", None, None)
    specs = {name: PartitionSpec(*leaves[name].sharding.spec[1:]) for name in params}
    return (
        {n: jax.device_put(array, NamedSharding(mesh, specs[n])) for n, array in params.items()},
        place(x_BLM, "BLM", mesh),
        place(is_token_BL, "BL", mesh),
    )


def collectives(compiled) -> collections.Counter:
    """Communicating operations of a compiled program, by kind."""
    kinds = "all-to-all|all-gather|all-reduce|reduce-scatter|collective-permute|ragged-all-to-all"
    return collections.Counter(re.findall(rf" ({kinds})(?:-start)?\(", compiled.as_text()))


@pytest.mark.parametrize("shape", MESHES)
@pytest.mark.parametrize("dispatch", ["slots", "einsum"])
def test_the_forward_pass_communicates_by_two_all_to_alls_and_nothing_else(shape, dispatch):
    graphdef, params = make_layer(dataclasses.replace(CONFIG, dispatch=dispatch))
    mesh = build_mesh(*shape)
    arguments = on_mesh(mesh, params, *tokens())

    def forward(params, x_BLM, is_token_BL):
        return run(graphdef, training_groups(CONFIG), params, x_BLM, is_token_BL, None)[0]

    with jax.set_mesh(mesh):
        compiled = jax.jit(forward).lower(*arguments).compile()
    assert collectives(compiled) == {"all-to-all": 2}


def value_and_gradients(graphdef):
    direction_BLM = np.random.default_rng(5).normal(size=(16, 16, 16)).astype(np.float32)

    def loss(params, x_BLM, is_token_BL, key):
        y_BLM, sums = run(graphdef, training_groups(CONFIG), params, x_BLM, is_token_BL, key)
        total = jnp.sum(y_BLM * direction_BLM) + 10 * sums.aux_loss
        return total, (y_BLM, sums.aux_loss, sums.counters)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def assert_near(found, wanted):
    """Within 1e-5 of the largest value of each array."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = max(np.abs(other).max(), 1e-30)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * scale)


@pytest.fixture(scope="module")
def on_one_device():
    """The slots form without a mesh: what all others must equal."""
    graphdef, params = make_layer(dataclasses.replace(CONFIG, dispatch="slots"))
    (_, aux), gradients = value_and_gradients(graphdef)(params, *tokens(), jax.random.key(3))
    assert int(aux[2].num_over_capacity_1) > 0
    return aux, gradients


@pytest.mark.parametrize("dispatch", ["slots", "einsum"])
@pytest.mark.parametrize("shape", MESHES)
def test_eight_devices_compute_what_one_does(shape, dispatch, on_one_device):
    graphdef, params = make_layer(dataclasses.replace(CONFIG, dispatch=dispatch))
    mesh = build_mesh(*shape)
    with jax.set_mesh(mesh):
        (_, aux), gradients = value_and_gradients(graphdef)(
            *on_mesh(mesh, params, *tokens()), jax.random.key(3)
        )
    expected_aux, expected_gradients = on_one_device
    assert_near(jax.device_get(aux[:2]), jax.device_get(expected_aux[:2]))
    assert jax.device_get(aux[2]) == jax.device_get(expected_aux[2])
    assert_near(jax.device_get(gradients), jax.device_get(expected_gradients))


def test_every_parameter_of_the_layer_gets_a_gradient(on_one_device):
    _, (params, dx_BLM) = on_one_device
    for gradient in [*params.values(), dx_BLM]:
        assert np.abs(gradient).max() > 1e-3
