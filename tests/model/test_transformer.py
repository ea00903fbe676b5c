"""The Transformer: which tokens see each other, packing, padding, depth, shared tables."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.model.blueprint import abstract_model, init_params
from gshard_mt.model.moe import training_groups
from gshard_mt.partitioning.axes import letters_of
from gshard_mt.train.step import sides
from tests.model import tiny

LENGTH = 24
SENTENCES = [tiny.sentence(0, 5, 7), tiny.sentence(1, 8, 4), tiny.sentence(2, 3, 6)]
PACKED = tiny.pack([SENTENCES, [SENTENCES[1]], [], []], LENGTH)
ALONE = tiny.pack([[SENTENCES[0]], [SENTENCES[1]], [SENTENCES[2]], []], LENGTH)


def run(model: tiny.Tiny, params, batch, key=None):
    """Hidden states [B, T, M] and logits [B, T, V] of a batch."""
    built = model.blueprint.build(params)
    groups = training_groups(model.config)
    keys = (None, None) if key is None else jax.random.split(key)
    source, target = sides(batch)
    memory_BLM, _ = built.encode(source, groups, keys[0])
    hidden_BTM, _ = built.decode(memory_BLM, source.segment_BL, target, groups, keys[1])
    return hidden_BTM, built.logits(hidden_BTM)


class Case:
    """A tiny model and its forward pass, compiled once for the file."""

    def __init__(self, config):
        self.model = tiny.make(config)
        self.params = self.model.params
        self.forward = jax.jit(lambda params, batch: run(self.model, params, batch))

    def nll(self, batch):
        log_p_BTV = jax.nn.log_softmax(self.forward(self.params, batch)[1])
        return -np.take_along_axis(np.asarray(log_p_BTV), batch.label_BT[..., None], -1)[..., 0]


@pytest.fixture(scope="module")
def moe():
    return Case(tiny.MOE)


@pytest.fixture(scope="module")
def dense():
    return Case(tiny.DENSE)


@pytest.fixture(scope="module", params=["moe", "dense"])
def case(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def dropping():
    """Dropout, random second experts, and too few slots for all choices."""
    config = dataclasses.replace(tiny.MOE, dropout_rate=0.2, ffn_dropout_rate=0.1)
    config = tiny.with_moe(config, capacity_factor=1.0)
    model = tiny.make(config)
    return model, jax.jit(lambda params, batch, key: run(model, params, batch, key)[0])


def test_residual_output_weights_start_smaller_in_deeper_stacks():
    """Each matrix is uniform: its largest entry is within 5% of the bound and never above it."""
    config = tiny.with_moe(dataclasses.replace(tiny.MOE, num_layers=12), shared_ffn_dim=24)
    params = init_params(abstract_model(config, tiny.VOCAB_SIZES, tiny.one_device()), 0)
    fan_in = {"wo_NDM": 2 * 6, "wo_HM": 24, "wo_EHM": 24}
    num_drawn = 0
    for path, value in jax.tree.leaves_with_path(params):
        name = path[-1].key
        if name.startswith("w"):
            scale = 2 / 6 if name in fan_in else 1
            largest = float(jnp.abs(value).max()) / scale * (fan_in.get(name, 16) / 3) ** 0.5
            assert 0.95 < largest <= 1.0, (path, largest)
            num_drawn += name in fan_in
    assert num_drawn == (2 + 3) + (3 + 4)  # of an encoder's and a decoder's two layers


def test_a_packed_sentence_has_the_loss_it_has_alone(case):
    packed_BT, alone_BT = case.nll(PACKED), case.nll(ALONE)
    for number in range(3):
        together = packed_BT[0, PACKED.target_segment_BT[0] == number + 1]
        by_itself = alone_BT[number, ALONE.target_segment_BT[number] == 1]
        np.testing.assert_allclose(together, by_itself, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(packed_BT[1], alone_BT[1], rtol=1e-5, atol=1e-5)


def test_a_packed_sentence_has_another_loss_if_positions_run_on(case):
    """Shows that the tests of packing can fail."""
    run_on = np.arange(LENGTH, dtype=np.int32) * np.ones((4, 1), np.int32)
    packed_BT = case.nll(PACKED)
    moved_BT = case.nll(PACKED._replace(target_position_BT=run_on))
    is_second = PACKED.target_segment_BT[0] == 2
    assert np.abs(packed_BT[0, is_second] - moved_BT[0, is_second]).max() > 1e-3


# Every id once per side: the gradient of an embedding row is that of the token at one position.
DISTINCT = PACKED._replace(
    source_BL=np.tile(np.arange(LENGTH, dtype=np.int32), (4, 1)),
    input_BT=np.tile(np.arange(LENGTH, dtype=np.int32), (4, 1)),
)


@pytest.fixture(scope="module")
def influences(moe):
    """[T, L] and [T, T]: how much source and target tokens influence hidden[t], in row 0."""
    batch = jax.tree.map(lambda array: array[:1], DISTINCT)
    direction_M = np.random.default_rng(0).normal(size=moe.model.config.model_dim)

    @jax.jit
    def pull_back(params):
        def outputs(tables):
            hidden_BTM = run(moe.model, params | tables, batch)[0]
            return hidden_BTM[0] @ jnp.asarray(direction_M, jnp.float32)

        sides = "source_embedding_VM", "target_embedding_VM"
        gradients = jax.jacrev(outputs)({side: params[side] for side in sides})
        return [gradients[side] for side in sides]

    return [np.abs(g).max(-1)[:, :LENGTH] for g in pull_back(moe.params)]


def test_the_decoder_sees_its_own_sentence_up_to_here_and_nothing_else(influences):
    segment_T = DISTINCT.target_segment_BT[0]
    is_seen_TT = (segment_T[:, None] == segment_T) & np.tri(LENGTH, dtype=bool)
    is_real_T = segment_T != 0
    influence_TT = influences[1]
    assert np.all(influence_TT[is_real_T][~is_seen_TT[is_real_T]] == 0)
    assert np.all(influence_TT[is_real_T][is_seen_TT[is_real_T]] > 0)


def test_the_decoder_sees_all_of_its_own_source_and_nothing_else(influences):
    segment_T, segment_L = DISTINCT.target_segment_BT[0], DISTINCT.source_segment_BL[0]
    is_seen_TL = segment_T[:, None] == segment_L
    is_real_T = segment_T != 0
    influence_TL = influences[0]
    assert np.all(influence_TL[is_real_T][~is_seen_TL[is_real_T]] == 0)
    assert np.all(influence_TL[is_real_T][is_seen_TL[is_real_T]] > 0)


def fill_padding(batch, seed: int):
    """Writes random ids and positions wherever the segment is 0."""
    rng = np.random.default_rng(seed)
    is_source, is_target = batch.source_segment_BL != 0, batch.target_segment_BT != 0

    def fill(array, is_token, most):
        return np.where(is_token, array, rng.integers(1, most, array.shape, np.int32))

    return batch._replace(
        source_BL=fill(batch.source_BL, is_source, tiny.SOURCE_SIZE),
        source_position_BL=fill(batch.source_position_BL, is_source, LENGTH),
        input_BT=fill(batch.input_BT, is_target, tiny.TARGET_SIZE),
        target_position_BT=fill(batch.target_position_BT, is_target, LENGTH),
    )


def test_the_content_of_padding_changes_nothing(case):
    filled = fill_padding(PACKED, seed=0)
    assert np.any(filled.source_BL != PACKED.source_BL)
    is_token_BT = PACKED.target_segment_BT != 0
    hidden_BTM = np.asarray(case.forward(case.params, PACKED)[0])
    filled_BTM = np.asarray(case.forward(case.params, filled)[0])
    np.testing.assert_array_equal(hidden_BTM[is_token_BT], filled_BTM[is_token_BT])
    assert np.all(np.isfinite(filled_BTM))


def test_padding_takes_no_expert_slots_from_tokens(dropping):
    model, forward = dropping
    is_token_BT = PACKED.target_segment_BT != 0
    key = jax.random.key(0)
    hidden_BTM = np.asarray(forward(model.params, PACKED, key))
    filled_BTM = np.asarray(forward(model.params, fill_padding(PACKED, seed=0), key))
    np.testing.assert_array_equal(hidden_BTM[is_token_BT], filled_BTM[is_token_BT])


def test_a_key_makes_the_output_random_and_the_same_key_repeats_it(dropping):
    model, forward = dropping
    first = forward(model.params, PACKED, jax.random.key(0))
    np.testing.assert_array_equal(first, forward(model.params, PACKED, jax.random.key(0)))
    other = forward(model.params, PACKED, jax.random.key(1))
    is_token_BT = PACKED.target_segment_BT != 0
    differs_BTM = np.asarray(first != other)[is_token_BT]
    assert differs_BTM.mean() > 0.9


def test_without_a_key_dropout_rates_change_nothing(moe):
    config = dataclasses.replace(tiny.MOE, dropout_rate=0.5, ffn_dropout_rate=0.5)
    blueprint = abstract_model(config, tiny.VOCAB_SIZES, tiny.one_device())
    model = moe.model._replace(config=config, blueprint=blueprint)
    hidden_BTM, _ = jax.jit(lambda params, batch: run(model, params, batch))(moe.params, PACKED)
    np.testing.assert_array_equal(hidden_BTM, moe.forward(moe.params, PACKED)[0])


def test_the_program_does_not_grow_with_depth():
    lengths = []
    # Numbers into which no key is split elsewhere, since a program shares the code of equal splits.
    for num_blocks in (5, 9):
        config = dataclasses.replace(tiny.DENSE, num_layers=2 * num_blocks, dropout_rate=0.1)
        blueprint = abstract_model(config, tiny.VOCAB_SIZES, tiny.one_device())
        model = tiny.Tiny(config, blueprint, {})

        def loss(params, key, model=model):
            return jnp.sum(run(model, params, PACKED, key)[1])

        lowered = jax.jit(jax.grad(loss)).lower(blueprint.params, jax.random.key(0))
        lengths.append(lowered.as_text().count("\n"))
    assert lengths[0] == lengths[1] > 1000


def names(params) -> list[str]:
    paths = jax.tree.flatten_with_path(params)[0]
    return ["/".join(str(key.key) for key in path) for path, _ in paths]


def test_a_dense_model_has_no_expert_parameters(moe, dense):
    assert not [name for name in names(dense.params) if "E" in letters_of(name)]
    experts = [name for name in names(moe.params) if "E" in letters_of(name)]
    assert len(experts) == 2 * 3  # encoder and decoder: gate, wi, wo


def test_every_other_layer_has_experts_and_depth_is_the_first_axis(moe):
    config = dataclasses.replace(tiny.MOE, num_layers=12)
    params = abstract_model(config, tiny.VOCAB_SIZES, tiny.one_device()).params
    for stack in ("encoder", "decoder"):
        sparse, plain = (params[stack]["layers"][index]["feed_forward"] for index in (0, 1))
        assert sparse["wi_EMH"].shape == (3, 4, 16, 24)
        assert plain["wi_MH"].shape == (3, 16, 24)
    assert names(params) == names(moe.params)


def test_tied_embeddings_are_one_table_for_source_target_and_softmax():
    config = dataclasses.replace(tiny.DENSE, tie_embeddings=True, tie_softmax=True)
    blueprint = abstract_model(config, (33, 33), tiny.one_device())
    tables = [name for name in names(blueprint.params) if name.endswith("_VM")]
    assert tables == ["target_embedding_VM"]


@pytest.mark.parametrize("is_softmax_tied", [True, False])
def test_the_softmax_uses_the_target_embedding_only_if_tied(is_softmax_tied):
    config = dataclasses.replace(tiny.DENSE, tie_softmax=is_softmax_tied)
    model = tiny.make(config)
    tables = {name for name in names(model.params) if name.endswith("_VM")}
    untied = set() if is_softmax_tied else {"softmax_VM"}
    assert tables == {"source_embedding_VM", "target_embedding_VM"} | untied
    table_VM = model.params["target_embedding_VM" if is_softmax_tied else "softmax_VM"]
    built = model.blueprint.build(model.params)
    hidden_BTM = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    np.testing.assert_allclose(
        built.logits(jnp.asarray(hidden_BTM)), hidden_BTM @ table_VM.T, atol=1e-5
    )


def test_source_and_target_tables_are_of_their_own_vocabularies(dense):
    assert dense.params["source_embedding_VM"].shape == (tiny.SOURCE_SIZE, 16)
    assert dense.params["target_embedding_VM"].shape == (tiny.TARGET_SIZE, 16)


def test_bfloat16_activations_stay_near_float32_ones(dense):
    config = dataclasses.replace(tiny.DENSE, dtype="bfloat16")
    blueprint = abstract_model(config, tiny.VOCAB_SIZES, tiny.one_device())
    model = dense.model._replace(config=config, blueprint=blueprint)
    _, logits_BTV = jax.jit(lambda params: run(model, params, PACKED))(dense.params)
    expected_BTV = dense.forward(dense.params, PACKED)[1]
    is_token_BT = PACKED.target_segment_BT != 0
    assert logits_BTV.dtype == jnp.float32
    error = np.abs(logits_BTV - expected_BTV)[is_token_BT].max()
    assert 0 < error < 0.05 * np.abs(expected_BTV).max()
