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

from gshard_mt.config.records import ModelConfig, MoeConfig
from gshard_mt.errors import ConfigError
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.model.depth import REMATS
from gshard_mt.model.layers import key_stream
from gshard_mt.model.moe import (
    Groups,
    MixtureOfExperts,
    Tokens,
    decoding_groups,
    group_capacity,
    training_groups,
)
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.routing.gates.top2 import top2
from gshard_mt.routing.strategies import STRATEGIES
from tests.collectives import find_collectives
from tests.model.tiny import with_moe
from tests.routing.problems import route

SIZES = {"M": 16, "H": 24, "A": 4}
CONFIG = ModelConfig(
    model_dim=16,
    ffn_dim=24,
    num_heads=2,
    head_dim=8,
    moe=MoeConfig(num_experts=8, group_size=16, capacity_factor=1.5),
    ffn_dropout_rate=0.2,
)


# Dropout, whose random bits take long to compile, with one gate only.
NO_DROPOUT = dataclasses.replace(CONFIG, ffn_dropout_rate=0.0)
GATES = {gate: with_moe(NO_DROPOUT, gate=gate) for gate in STRATEGIES} | {"top2": CONFIG}
# One gate has more experts than there are devices, and one has fewer.
GATES["top_k"] = with_moe(GATES["top_k"], num_experts=16)
GATES["top1"] = with_moe(GATES["top1"], num_experts=2, capacity_factor=1.0)
GATES["hierarchical"] = with_moe(GATES["hierarchical"], num_expert_groups=4)
# data, expert, model
MESHES = {gate: (2, 2, 2) for gate in sorted(STRATEGIES)} | {"top_k": (1, 8, 1)}


def make_layer(config: ModelConfig):
    """The layer, with parameters drawn by NumPy: each shape that JAX draws is compiled."""
    sizes = SIZES | {"E": config.moe.num_experts}
    graphdef, state = nnx.split(
        nnx.eval_shape(
            lambda: MixtureOfExperts(config, sizes, key_stream(jax.random.key(0)), config.moe.gate)
        )
    )
    rng = np.random.default_rng(7)

    def draw(path, like: jax.ShapeDtypeStruct) -> np.ndarray:
        is_gate = path[-1].key.startswith(("wg", "wnoise", "wprimary"))  # gates that decide
        deviation = 0.5 if is_gate else like.shape[-2] ** -0.5
        return (deviation * rng.normal(size=like.shape)).astype(np.float32)

    return graphdef, jax.tree.map_with_path(draw, nnx.to_pure_dict(state))


def tokens(seed: int = 0):
    """x [16, 16, M], an eighth of it padding."""
    rng = np.random.default_rng(seed)
    x_BLM = rng.normal(size=(16, 16, 16)).astype(np.float32)
    return x_BLM, rng.random((16, 16)) > 1 / 8


def run(graphdef, groups: Groups, params, x_BLM, is_token_BL, key):
    ids_BL = jnp.arange(is_token_BL.size, dtype=jnp.int32).reshape(is_token_BL.shape)
    tokens = Tokens(ids_BL, is_token_BL.astype(jnp.int32), 0 * ids_BL, ids_BL % 3)
    return nnx.merge(graphdef, params)(x_BLM, tokens, groups, key)


@pytest.mark.parametrize(
    ("dispatch", "groups"),
    [
        ("slots", Groups(16, 1.0)),
        ("einsum", Groups(64, 0.5)),
        ("einsum", Groups(None, 2.0, no_drop=True)),  # in which no form has slots
    ],
)
def test_the_layer_is_a_weighted_sum_of_the_chosen_experts_token_by_token(dispatch, groups):
    graphdef, params = make_layer(with_moe(CONFIG, dispatch=dispatch))
    x_BLM, is_token_BL = tokens()
    y_BLM, sums = jax.jit(functools.partial(run, graphdef, groups._replace(num_pairs=3)))(
        params, x_BLM, is_token_BL, None
    )
    wg_ME, wi_EMH, wo_EHM = (np.asarray(params[name]) for name in ("wg_ME", "wi_EMH", "wo_EHM"))
    size = groups.size or 16
    x_GSM = np.asarray(x_BLM).reshape(-1, size, 16)
    capacity = group_capacity(CONFIG, groups, size)
    logits_GSE, is_token_GS = x_GSM @ wg_ME, is_token_BL.reshape(-1, size)
    routing = route(top2, logits_GSE, is_token_GS, capacity)
    expert_GSK, weight_GSK = np.asarray(routing.expert_GSK), np.asarray(routing.weight_GSK)
    expected_GSM = np.zeros_like(x_GSM)
    for g, s in np.ndindex(x_GSM.shape[:2]):
        for expert, weight in zip(expert_GSK[g, s], weight_GSK[g, s], strict=True):
            h_H = np.maximum(x_GSM[g, s] @ wi_EMH[expert], 0)
            expected_GSM[g, s] += weight * (h_H @ wo_EHM[expert])
    np.testing.assert_allclose(y_BLM, expected_GSM.reshape(y_BLM.shape), rtol=1e-5, atol=1e-5)
    assert not np.any(np.asarray(y_BLM)[~is_token_BL])
    np.testing.assert_allclose(sums.aux_loss, routing.aux_loss, rtol=1e-5)
    num_dispatched_GS = np.sum(weight_GSK > 0, axis=-1)[is_token_GS]
    np.testing.assert_array_equal(
        sums.counters.num_dispatched_XK.sum(0), np.bincount(num_dispatched_GS)
    )
    # The capacity is felt, or large enough for everything.
    is_felt = np.any(np.asarray(sums.counters.num_over_capacity_XK))
    assert is_felt != groups.no_drop


def test_decoding_drops_nothing_and_every_sentence_is_its_own_group():
    assert training_groups(CONFIG) == Groups(16, 1.5)
    assert decoding_groups(CONFIG) == Groups(None, 2.0, no_drop=True)


@functools.cache
def specs(mesh) -> dict[str, PartitionSpec]:
    """How the layer's parameters are sharded, by name; this gate has those of every other."""
    blueprint = abstract_model(GATES["hierarchical"], (8, 8), mesh).params
    leaves = blueprint["encoder"]["layers"][0]["feed_forward"]
    assert leaves["wi_EMH"].sharding.spec == PartitionSpec(None, "expert", None, "model")
    return {name: PartitionSpec(*leaf.sharding.spec[1:]) for name, leaf in leaves.items()}


def on_mesh(mesh, params, x_BLM=None):
    """Returns the layer's arguments, sharded as in training."""
    shardings = {name: NamedSharding(mesh, specs(mesh)[name]) for name in params}
    drawn_BLM, is_token_BL = tokens()
    x_BLM = drawn_BLM if x_BLM is None else x_BLM
    return (
        jax.device_put(params, shardings),
        jax.device_put(x_BLM, sharding(mesh, "BLM", 3)),
        jax.device_put(is_token_BL, sharding(mesh, "BL", 2)),
    )


def kinds(text) -> collections.Counter:
    """The number of communicating operations of a compiled program, by kind."""
    return collections.Counter(kind for kind, _ in find_collectives(text))


def compile_forward(config, shape) -> str:
    graphdef, params = make_layer(config)
    mesh = build_mesh(*shape)

    def forward(params, x_BLM, is_token_BL):
        return run(graphdef, training_groups(config), params, x_BLM, is_token_BL, None)[0]

    with jax.set_mesh(mesh):
        return str(jax.jit(forward).lower(*on_mesh(mesh, params)).compile().as_text())


def test_a_layer_communicates_by_two_all_to_alls_and_never_gathers():
    found = kinds(compile_forward(CONFIG, (2, 2, 2)))
    # Hidden units that devices share are one sum of what each made of its own.
    assert found == {"all-to-all": 2, "all-reduce": 1}


@pytest.mark.parametrize("num_devices", [2, 8])
def test_dropless_sends_as_much_to_two_devices_as_to_eight(num_devices):
    config = with_moe(CONFIG, dispatch="dropless")
    found = find_collectives(compile_forward(config, (8 // num_devices, num_devices, 1)))
    # In a loop of rounds, experts, vectors and results; before it, how many rounds.
    expected = {"all-to-all": 3, "all-reduce": 1}
    assert collections.Counter(kind for kind, _ in found) == expected
    choices = 2 * 16 * 16 // 8
    assert max(size for _, size in found) <= (1.5 * choices + 8 * num_devices) * 16


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"all_to_all_dtype": "bfloat16"}, {"all-to-all": 2}),
        # values and scales of each chunk
        ({"all_to_all_dtype": "int8", "all_to_all_chunks": 2}, {"all-to-all": 2 * 4}),
    ],
)
def test_the_options_of_the_all_to_all_reach_the_program(option, expected):
    text = compile_forward(with_moe(CONFIG, **option), (1, 8, 1))
    assert kinds(text) == expected
    if option.get("all_to_all_dtype") == "int8":
        assert len(re.findall(r"= \(?s8\[.* all-to-all(?:-start)?\(", text)) == 4


def value_and_gradients(config):
    graphdef, _ = make_layer(config)
    direction_BLM = np.random.default_rng(5).normal(size=(16, 16, 16)).astype(np.float32)

    def loss(params, x_BLM, is_token_BL, key):
        groups = training_groups(config, 3)
        y_BLM, sums = run(graphdef, groups, params, x_BLM, is_token_BL, key)
        total = jnp.sum(y_BLM * direction_BLM) + 10 * sums.aux_loss + sums.z_loss
        return total, (y_BLM, sums.aux_loss, sums.counters)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def assert_near(found, wanted, tolerance=1e-5):
    """Within the tolerance times the largest value of each array."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = max(np.abs(other).max(), 1e-30)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def make_config(gate, ffn_dropout_rate=None, **options) -> ModelConfig:
    config = GATES[gate]
    if ffn_dropout_rate is not None:
        config = dataclasses.replace(config, ffn_dropout_rate=ffn_dropout_rate)
    return with_moe(config, **options)


@functools.cache
def one_device(gate, **options):
    """The layer without a mesh: what all meshes must equal."""
    config = make_config(gate, **options)
    _, params = make_layer(config)
    (_, aux), gradients = value_and_gradients(config)(params, *tokens(), jax.random.key(3))
    return jax.device_get((aux, gradients))


@functools.cache
def eight_devices(gate, shape, **options):
    """Returns what the layer computes on a mesh, and the compiled program's text."""
    config, mesh = make_config(gate, **options), build_mesh(*shape)
    with jax.set_mesh(mesh):
        arguments = (*on_mesh(mesh, make_layer(config)[1]), jax.random.key(3))
        program = value_and_gradients(config).lower(*arguments).compile()
        (_, aux), gradients = program(*arguments)
    return jax.device_get((aux, gradients)), program.as_text()


@pytest.mark.parametrize("gate", MESHES)
def test_eight_devices_compute_what_one_does(gate):
    (y_BLM, aux_loss, counters), gradients = eight_devices(gate, MESHES[gate])[0]
    expected, expected_gradients = one_device(gate)
    assert np.any(expected[2].num_over_capacity_XK) or gate == "expert_choice"
    assert np.all(counters.load_XE.sum(0) > 0)
    assert counters.load_XE.shape[1] == GATES[gate].moe.num_experts
    assert_near((y_BLM, aux_loss), expected[:2])
    assert_near(counters.entropy_X, expected[2].entropy_X)
    for name in set(counters._fields) - {"entropy_X"}:
        np.testing.assert_array_equal(getattr(counters, name), getattr(expected[2], name))
    assert_near(gradients, expected_gradients)


@pytest.mark.parametrize("gate", MESHES)
def test_training_has_four_all_to_alls_and_gathers_no_array_whatever_the_gate(gate):
    found = kinds(eight_devices(gate, MESHES[gate])[1])
    assert found == {"all-to-all": 4, "all-reduce": found["all-reduce"]}
    # Nor has any gate a sum that top2 has not.
    assert found["all-reduce"] <= kinds(eight_devices("top2", (2, 2, 2))[1])["all-reduce"]


EINSUM_ON_MESH = functools.partial(eight_devices, "expert_choice", (2, 4, 1), dispatch="einsum")


def test_gradients_of_experts_are_summed_over_the_data_axis_only():
    text = EINSUM_ON_MESH()[1]
    largest = max(size for kind, size in find_collectives(text) if kind == "all-reduce")
    assert largest <= CONFIG.moe.num_experts * CONFIG.model_dim * CONFIG.ffn_dim // 4


def test_fewer_experts_than_devices_of_their_axis_are_refused():
    config = with_moe(CONFIG, num_experts=4)
    with pytest.raises(
        ConfigError, match="^config.mesh.expert: found mesh.expert=8, accepted: what divides E=4"
    ):
        abstract_model(config, (8, 8), build_mesh(1, 8))


def test_the_einsum_form_on_eight_devices_computes_what_one_does():
    (aux, gradients), _ = EINSUM_ON_MESH()
    expected, expected_gradients = one_device("expert_choice", dispatch="einsum")
    assert_near((aux[:2], gradients), (expected[:2], expected_gradients))


ROOM_FOR_ALL = {"ffn_dropout_rate": 0.0, "capacity_factor": 8.0}


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 8, 1)])
def test_dropless_on_eight_devices_computes_what_one_does(shape):
    (aux, gradients), _ = eight_devices("top2", shape, dispatch="dropless", **ROOM_FOR_ALL)
    expected, expected_gradients = one_device("top2", dispatch="dropless", **ROOM_FOR_ALL)
    assert_near((aux[:2], gradients), (expected[:2], expected_gradients))


@pytest.mark.parametrize(("remat", "key"), [("none", None), ("none", 3), ("experts", 3)])
def test_dropless_takes_as_many_rounds_as_the_fullest_device_needs(remat, key):
    config = with_moe(NO_DROPOUT, dispatch="dropless", num_experts=16)
    graphdef, params = make_layer(config)
    params["wg_ME"][0, :2] = 40.0  # most tokens choose the two experts of the first device
    x_BLM, is_token_BL = tokens()
    x_BLM[..., 0] = 1.0
    direction_BLM = np.random.default_rng(5).normal(size=x_BLM.shape).astype(np.float32)

    @REMATS[remat]
    def layer(params, x_BLM):
        own_key = key if key is None else jax.random.key(key)
        return run(graphdef, training_groups(config), params, x_BLM, is_token_BL, own_key)

    def loss(params, x_BLM):
        y_BLM, sums = layer(params, x_BLM)
        return jnp.sum(y_BLM * direction_BLM), (y_BLM, sums.counters.load_XE)

    gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, (expected_BLM, load_XE)), expected = gradients(params, x_BLM)
    # A device has room for 16 of the 64 choices of each device in a round.
    assert load_XE[:, :2].sum() > 0.9 * load_XE.sum()
    mesh = build_mesh(1, 8)
    with jax.set_mesh(mesh):
        split, x_BLM, _ = on_mesh(mesh, params, x_BLM)
        (_, (y_BLM, _)), found = gradients(split, x_BLM)
    assert_near((y_BLM, found), (expected_BLM, expected))


def test_dropless_on_eight_devices_has_dropout():
    options = ROOM_FOR_ALL | {"ffn_dropout_rate": 0.2}
    (aux, gradients), _ = eight_devices("top2", (1, 8, 1), dispatch="dropless", **options)
    expected, _ = one_device("top2", dispatch="dropless", **ROOM_FOR_ALL)
    assert 0.1 < distance(aux[0], expected[0]) < 1
    assert all(np.abs(gradient).max() > 1e-4 for gradient in jax.tree.leaves(gradients))


def test_the_form_with_slots_equals_the_einsum_form():
    slots, slots_gradients = one_device("expert_choice")
    einsum, einsum_gradients = one_device("expert_choice", dispatch="einsum")
    assert_near((slots[:2], slots_gradients), (einsum[:2], einsum_gradients))


@pytest.mark.parametrize("gate", ["top2", "hierarchical"])
def test_dropless_equals_the_einsum_form_with_room_for_all(gate):
    dropless, dropless_gradients = one_device(gate, dispatch="dropless", **ROOM_FOR_ALL)
    einsum, einsum_gradients = one_device(gate, dispatch="einsum", **ROOM_FOR_ALL)
    assert_near((dropless[:2], dropless_gradients), (einsum[:2], einsum_gradients))


@pytest.mark.parametrize("gate", sorted(STRATEGIES))
def test_every_parameter_of_the_layer_gets_a_gradient(gate):
    _, (params, dx_BLM) = one_device(gate)
    for name, gradient in [*params.items(), ("x", dx_BLM)]:
        assert np.abs(gradient).max() > 1e-4, name


def test_chunks_change_nothing_and_rounding_changes_little():
    def result(**options):
        aux, gradients = one_device("hash", **options)
        return aux[0], gradients

    exact = result()
    assert_near(result(all_to_all_chunks=3), exact)
    for dtype, tolerance in (("bfloat16", 0.003), ("int8", 0.008)):
        (y_BLM, gradients), (exact_BLM, exact_gradients) = result(all_to_all_dtype=dtype), exact
        assert 1e-4 < distance(y_BLM, exact_BLM) < tolerance
        # Where rounding turns the sign of a hidden unit, all of its gradient comes or goes.
        for one, other in zip(
            jax.tree.leaves(gradients), jax.tree.leaves(exact_gradients), strict=True
        ):
            assert distance(one, other) < 0.1


def distance(found, wanted) -> float:
    """The length of the difference over the length of what is wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@functools.cache
def forward(**options):
    """The compiled layer, a function of parameters and key, and the parameters it was made with."""
    config = with_moe(NO_DROPOUT, **options)
    graphdef, params = make_layer(config)
    compiled = jax.jit(functools.partial(run, graphdef, training_groups(config)))
    return lambda params, key=None: compiled(params, *tokens(), key)[0], params


def test_a_shared_expert_is_added_for_every_token():
    with_shared, params = forward(shared_ffn_dim=12)
    without, _ = forward()
    y_BLM = with_shared(params)
    shared = params["shared_expert"]
    h_BLH = np.maximum(tokens()[0] @ shared["wi_MH"], 0)
    others = {name: weight for name, weight in params.items() if name != "shared_expert"}
    expected_BLM = without(others) + h_BLH @ shared["wo_HM"]
    np.testing.assert_allclose(y_BLM, expected_BLM, rtol=1e-5, atol=1e-5)


def test_jitter_moves_the_gate_in_training_and_nothing_else():
    jittered, params = forward(router_jitter=0.5)
    still = jittered(params)
    np.testing.assert_array_equal(still, forward()[0](params))
    assert np.abs(jittered(params, jax.random.key(0)) - still).max() > 1e-2


def test_zero_weights_of_noisy_gates_leave_all_experts_alike():
    for gate in ("noisy_top_k", "hierarchical"):
        layer = MixtureOfExperts(GATES[gate], SIZES | {"E": 8}, key_stream(jax.random.key(0)), gate)
        params = nnx.to_pure_dict(nnx.state(layer))
        assert not np.any(params["wg_ME"]) and not np.any(params["wnoise_ME"])
