"""Checkpoints come back bit for bit, on any mesh, and the right ones are kept and chosen."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from gshard_mt.config.records import Config, TrainConfig
from gshard_mt.errors import CheckpointError
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.train.optimizer import make_optimizer
from gshard_mt.train.state import abstract_state, abstract_training
from tests.model import tiny

DATA_STATE = {"next": 17, "sources": [{"seed": 2**40, "name": "de-en"}], "rest": None}


# Parameters like others of a state; the program that sums an array is most of a test's time.
ALIKE = {"decoder", "decoder_norm", "target_embedding_VM", "wk_MND", "wv_MND", "wo_NDM"}


def thin_out(tree: Any) -> Any:
    """The tree without parameters that are like others."""
    if isinstance(tree, dict):
        return {name: thin_out(part) for name, part in tree.items() if name not in ALIKE}
    if isinstance(tree, tuple | list):
        parts = map(thin_out, tree)
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


@functools.cache
def shapes_on(mesh, shard_parameters: bool = False):
    """Most of the state of a tiny MoE model with factored and unfactored arrays, on a mesh."""
    config = dataclasses.replace(tiny.MOE, model_dim=128, ffn_dim=128)
    blueprint = abstract_model(config, tiny.VOCAB_SIZES, mesh, shard_parameters)
    return thin_out(abstract_state(blueprint, make_optimizer(TrainConfig(), blueprint.letters)))


def fill(like, seed: int):
    """A state of random values, in its place on the mesh."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jax.device_put((100 * rng.normal(size=x.shape)).astype(x.dtype), x.sharding), like
    )


def assert_same_bits(found, wanted, like):
    for one, other, placed in zip(*map(jax.tree.leaves, (found, wanted, like)), strict=True):
        assert one.dtype == other.dtype
        assert one.sharding.is_equivalent_to(placed.sharding, one.ndim)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_state_saved_on_eight_devices_comes_back_bit_for_bit_on_any_mesh(tmp_path):
    like = shapes_on(build_mesh(2, 4))
    state = fill(like, seed=0)
    writer = Checkpoints(tmp_path, max_checkpoints=2)
    writer.save(5, state.params, state.opt_state, DATA_STATE, {})
    writer.close()
    devices = jax.devices()
    meshes = [
        build_mesh(2, 4),
        build_mesh(2, 2, devices=devices[4:]),
        build_mesh(1, 1, devices=devices[:1]),
    ]
    for mesh in meshes:
        wanted_like = shapes_on(mesh)
        reader = Checkpoints(tmp_path)
        params, optimizer, data_state = reader.restore(5, wanted_like.params, wanted_like.opt_state)
        assert jax.tree.structure(optimizer) == jax.tree.structure(state.opt_state)
        assert_same_bits(params, state.params, wanted_like.params)
        assert_same_bits(optimizer, state.opt_state, wanted_like.opt_state)
        assert data_state == DATA_STATE
        params = reader.restore_params("5", wanted_like.params)[1]
        assert_same_bits(params, state.params, wanted_like.params)
        reader.close()


def assert_comes_back(workdir, like, wanted_like):
    """A state saved as the first is sharded comes back bit for bit as the second is."""
    state = fill(like, seed=0)
    writer = Checkpoints(workdir, max_checkpoints=1)
    writer.save(5, state.params, state.opt_state, DATA_STATE, {})
    writer.close()
    reader = Checkpoints(workdir)
    params, optimizer, _ = reader.restore(5, wanted_like.params, wanted_like.opt_state)
    assert_same_bits(params, state.params, wanted_like.params)
    assert_same_bits(optimizer, state.opt_state, wanted_like.opt_state)
    reader.close()


@pytest.mark.parametrize("is_sharded", [True, False])
def test_sharded_parameters_are_restored_replicated_and_vice_versa(tmp_path, is_sharded):
    mesh = build_mesh(2, 4)
    assert_comes_back(tmp_path, shapes_on(mesh, is_sharded), shapes_on(mesh, not is_sharded))


@functools.cache
def dense_shapes(stage: int):
    """Most of the state of a dense model of eight layers per stack, in stages if there are any."""
    config = Config(model=dataclasses.replace(tiny.DENSE, num_layers=16))
    config.mesh.stage = stage
    mesh = build_mesh(2, 1, 1, 4) if stage > 1 else tiny.one_device()
    return thin_out(abstract_training(config, tiny.VOCAB_SIZES, mesh)[2])


@pytest.mark.parametrize("stages", [(4, 1), (1, 4)])
def test_pipeline_stages_are_restored_on_one_device_and_vice_versa(tmp_path, stages):
    split = [leaf for leaf in jax.tree.leaves(dense_shapes(4)) if "stage" in leaf.sharding.spec]
    assert len(split) > 20
    assert_comes_back(tmp_path, *map(dense_shapes, stages))


@pytest.fixture(scope="module")
def small():
    """A tree quick to save."""
    mesh = build_mesh(1, 1, devices=jax.devices()[:1])
    return {"w_M": jax.device_put(np.arange(3.0, dtype=np.float32), sharding(mesh, "", 1))}


def save_all(
    workdir, small, figures: dict, max_checkpoints: int, best_by: str = "nll"
) -> Checkpoints:
    checkpoints = Checkpoints(workdir, max_checkpoints, best_by)
    for step, figure in figures.items():
        params = jax.tree.map(lambda array, step=step: array + step, small)
        dev = {} if figure is None else {best_by: figure}
        checkpoints.save(step, params, small, {"step": step}, dev)
    checkpoints.close()
    return Checkpoints(workdir, best_by=best_by)


def test_the_last_few_and_the_best_are_kept(tmp_path, small):
    nlls = {1: 5.0, 2: 3.0, 3: 4.0, 4: None, 5: 4.5, 6: None}
    checkpoints = save_all(tmp_path, small, nlls, max_checkpoints=2)
    assert checkpoints.steps() == [2, 5, 6]
    assert checkpoints.choose("latest") == 6
    assert checkpoints.choose("best") == 2
    assert checkpoints.choose("5") == 5
    params = checkpoints.restore_params("best", small)[1]
    np.testing.assert_array_equal(params["w_M"], small["w_M"] + 2)


def test_a_better_checkpoint_replaces_the_best(tmp_path, small):
    save_all(tmp_path, small, {1: 3.0, 2: 4.0, 3: 5.0}, max_checkpoints=1)
    checkpoints = save_all(tmp_path, small, {4: 2.0, 5: 2.5}, max_checkpoints=1)
    assert checkpoints.steps() == [4, 5]  # the best is known after a restart, too
    assert checkpoints.choose("best") == 4
    checkpoints = save_all(tmp_path, small, {6: 6.0}, max_checkpoints=1)
    assert checkpoints.steps() == [4, 6]


def test_the_best_may_be_the_last(tmp_path, small):
    checkpoints = save_all(tmp_path, small, {1: 3.0, 2: 2.0, 3: 1.0}, max_checkpoints=2)
    assert checkpoints.steps() == [2, 3]
    assert checkpoints.choose("best") == checkpoints.choose("latest") == 3


def test_the_best_by_bleu_is_the_highest_and_kept(tmp_path, small):
    figures = {1: 20.0, 2: 30.0, 3: 25.0, 4: None, 5: 30.0}
    checkpoints = save_all(tmp_path, small, figures, max_checkpoints=1, best_by="bleu")
    assert checkpoints.steps() == [2, 5]
    assert checkpoints.choose("best") == 2
    with pytest.raises(CheckpointError, match="no checkpoint has a dev nll"):
        Checkpoints(tmp_path).choose("best")


def test_dev_metrics_of_other_data_are_not_compared(tmp_path, small):
    checkpoints = Checkpoints(tmp_path, max_checkpoints=1)
    for step, (data, nll) in enumerate(
        [("old", 3.0), ("old", 3.5), ("new", None), ("new", 5.0), ("new", 4.0), ("new", 4.5)], 1
    ):
        dev = {} if nll is None else {"nll": nll}
        checkpoints.save(step, small, small, {"batches": {"data": data}}, dev)
        checkpoints.wait()
        best = Checkpoints(tmp_path).choose("best")  # also after a restart
        assert best == checkpoints.choose("best") == {1: 1, 2: 1, 3: 1, 4: 4}.get(step, 5)
    checkpoints.close()
    assert Checkpoints(tmp_path).steps() == [5, 6]


def test_the_average_is_the_mean_of_all_that_the_run_has_trained(tmp_path):
    mesh = build_mesh(2, 4)
    like = {
        f"w_{letters}": jax.ShapeDtypeStruct(
            (8,) * len(letters), np.float32, sharding=sharding(mesh, letters, len(letters))
        )
        for letters in ("EMH", "M")
    }
    trees = [fill(like, seed) for seed in range(4)]
    checkpoints = Checkpoints(tmp_path, max_checkpoints=4)
    for number, params in enumerate(trees):
        checkpoints.save(number, params, params, DATA_STATE, {"nll": float(number == 0)})
    checkpoints.close()
    step, found = Checkpoints(tmp_path).restore_params("average", like)
    assert step == 3 and Checkpoints(tmp_path).steps() == [0, 1, 2, 3]
    for name, array in found.items():
        mean = np.mean([np.asarray(params[name], np.float64) for params in trees[1:]], axis=0)
        np.testing.assert_allclose(array, mean, rtol=1e-5, atol=1e-4)
        assert array.sharding.is_equivalent_to(like[name].sharding, array.ndim)


def test_an_unknown_step_is_refused_with_the_known_ones(tmp_path, small):
    checkpoints = save_all(tmp_path, small, {10: None, 20: None}, max_checkpoints=3)
    for step in ("15", "-10", "newest", "1e1", ""):
        with pytest.raises(CheckpointError, match="accepted: latest, best, 10, 20"):
            checkpoints.choose(step)
    with pytest.raises(CheckpointError, match="no checkpoint has a dev nll"):
        checkpoints.choose("best")


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is this a run directory"):
        Checkpoints(tmp_path)
    writer = Checkpoints(tmp_path, max_checkpoints=1)
    assert writer.steps() == []
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        writer.choose("latest")
    writer.close()


def test_an_interrupted_save_is_no_checkpoint(tmp_path, small):
    save_all(tmp_path, small, {1: None, 2: None}, max_checkpoints=3).close()
    whole = tmp_path / "checkpoints" / "2"
    assert whole.is_dir()
    whole.rename(tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-123")
    assert Checkpoints(tmp_path).steps() == [1]
    checkpoints = save_all(tmp_path, small, {2: None}, max_checkpoints=3)
    assert checkpoints.steps() == [1, 2]
