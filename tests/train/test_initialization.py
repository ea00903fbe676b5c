"""A run begins with another's parameters, on any mesh, once; what doesn't fit is one line."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from gshard_mt.config.records import Config, MeshConfig
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import CheckpointError, ConfigError
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.directory import Run, read_run, start_run
from gshard_mt.train.initialization import find_origin, initial_params, plan_mapping
from gshard_mt.train.loop import train
from gshard_mt.train.training import Options
from tests.making.runs import assert_same_bits, saved_arrays, tiny_config

LENGTHS = {"eval_every": 9, "save_every": 2, "max_checkpoints": 9, "optimizer": "adamw"}


@pytest.fixture(scope="module")
def alone():
    return build_mesh(1, 1, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def dense(config) -> Config:
    return tiny_config(config, MeshConfig(1, 1), num_steps=2, **LENGTHS)


@pytest.fixture(scope="module")
def run(dense, prepared, alone, tmp_path_factory):
    """A dense run of two steps on one device."""
    workdir = tmp_path_factory.mktemp("run")
    train(dense, prepared, workdir, alone)
    return workdir


def params(workdir, step: int) -> dict[str, np.ndarray]:
    arrays = saved_arrays(workdir, step)
    return {name: array for name, array in arrays.items() if name.startswith("params")}


def test_a_run_begins_with_the_parameters_of_another_and_never_again(
    dense, prepared, alone, run, tmp_path
):
    source, workdir = shutil.copytree(run, tmp_path / "source"), tmp_path / "new"
    config = dataclasses.replace(dense, train=dataclasses.replace(dense.train, seed=5, l2_sp=5.0))
    with pytest.raises(
        ConfigError, match=r"train\.l2_sp: found 5\.0, accepted: 0 in a run that beg"
    ):
        train(config, prepared, workdir, alone)
    assert not workdir.exists()
    train(config, prepared, workdir, alone, Options(init_from=f"{source}@2"))
    origin = read_run(workdir).origin
    assert origin and (origin.run, origin.step) == (str(source.resolve()), 2)
    expected, begun, trained = params(run, 2), params(workdir, 0), saved_arrays(workdir, 2)
    for name, array in expected.items():
        np.testing.assert_array_equal(begun[name], array, err_msg=name)
    assert any((trained[name] != array).any() for name, array in expected.items())

    # As if it had been killed between its first steps, and without the other run.
    shutil.rmtree(source)
    shutil.rmtree(workdir / "checkpoints" / "2")
    for init_from in ("", str(source)):
        train(config, prepared, workdir, alone, Options(init_from=init_from))
    assert_same_bits(saved_arrays(workdir, 2), trained)
    for name, array in expected.items():  # what train.l2_sp pulls to
        (start,) = (
            key for key in trained if key.endswith("['start']" + name.removeprefix("params"))
        )
        np.testing.assert_array_equal(trained[start], array, err_msg=name)
    assert read_run(workdir).origin == origin

    with pytest.raises(ConfigError, match=f"--init_from: found {run}, .* began from {source}"):
        find_origin(str(run), read_run(workdir), workdir)
    with pytest.raises(ConfigError, match=f"--init_from: found {source}, .* began at random"):
        find_origin(str(source), read_run(run), run)


MESHES = {"one": ((1, 1, 1), False), "eight": ((1, 8, 1), False), "all": ((2, 2, 2), True)}


def test_a_larger_model_begins_alike_on_every_mesh(config, prepared, run):
    tokenizer = load_tokenizer(prepared.directory)
    experts = tiny_config(config, MeshConfig(), 8, num_steps=2, **LENGTHS)
    experts.init.expert_noise = 0.1
    origin, found = find_origin(f"{run}@latest", None, run / "none"), {}
    assert origin
    for name, (shape, is_sharded) in MESHES.items():
        mesh = build_mesh(*shape, devices=jax.devices()[: np.prod(shape)])
        experts.mesh.shard_parameters = is_sharded
        with jax.set_mesh(mesh):
            blueprint = abstract_model(experts.model, tokenizer.vocab_sizes, mesh, is_sharded)
            rng = np.random.default_rng(0)
            fresh = jax.tree.map(
                lambda like, rng=rng: jax.device_put(
                    rng.normal(size=like.shape).astype(np.float32), like.sharding
                ),
                blueprint.params,
            )
            mapping = plan_mapping(origin, experts, blueprint, tokenizer)
            began = initial_params(mapping, blueprint, fresh)
        assert jax.tree.all(
            jax.tree.map(lambda x, like: x.sharding == like.sharding, began, blueprint.params)
        )
        found[name] = jax.tree.map(np.asarray, began)
    for name in ("eight", "all"):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-6),
            found[name],
            found["one"],
        )


def test_what_does_not_fit_is_one_line(config, prepared, alone, run, tmp_path):
    wide = tiny_config(config, MeshConfig(1, 1), num_steps=2, **LENGTHS)
    wide.model.ffn_dim = 48
    message = r"encoder/layers/0/feed_forward/wi_MH .*model\.ffn_dim=32"
    with pytest.raises(ConfigError, match=message) as raised:
        train(wide, prepared, tmp_path / "wide", alone, Options(init_from=str(run)))
    assert "\n" not in str(raised.value)
    frozen = tiny_config(config, MeshConfig(1, 1), num_steps=2, freeze="decoder/*/q", **LENGTHS)
    with pytest.raises(ConfigError, match="train.freeze: found"):
        train(frozen, prepared, tmp_path / "wide", alone)
    assert not (tmp_path / "wide").exists()  # so that the right command isn't refused
    for init_from, message in (
        (f"{run}@7", "step '7' not found; accepted: latest, best, 2"),
        (str(tmp_path / "none"), "is .*none a run directory"),
    ):
        with pytest.raises(CheckpointError, match=message):
            find_origin(init_from, None, tmp_path / "new")


def test_a_damaged_or_replaced_checkpoint_is_not_begun_from(dense, prepared, alone, run, tmp_path):
    source, workdir = shutil.copytree(run, tmp_path / "source"), tmp_path / "new"
    config = dataclasses.replace(dense, train=dataclasses.replace(dense.train, seed=5))
    origin = find_origin(str(source), None, workdir)
    assert origin
    # Killed before its first checkpoint was whole, and then the other run was made again.
    start_run(workdir, record_of(config, prepared, origin._replace(checksum="0" * 8)))
    with pytest.raises(CheckpointError, match="not the parameters that this run began with"):
        train(config, prepared, workdir, alone)
    record = source / "checkpoints" / "2" / "state" / "metadata"
    content = json.loads(record.read_bytes())
    content["record"]["checksums"]["params/encoder_norm/scale_M"] ^= 1
    record.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="metadata: not what was saved"):
        find_origin(str(source), None, tmp_path / "other")


def record_of(config: Config, prepared, origin) -> Run:
    return Run(config, prepared.directory, prepared.fingerprint, prepared.train_pairs, origin)
