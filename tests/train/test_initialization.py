"""A run begins with another's parameters, on any mesh, once; what doesn't fit is one line."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
import sentencepiece

from gshard_mt.config.records import Config, InitConfig, MeshConfig
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepare.subwords import train_model
from gshard_mt.data.tokenizer import Tokenizer, load_tokenizer, spell_pieces
from gshard_mt.errors import CheckpointError, ConfigError
from gshard_mt.export.folder import export, write_safetensors
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.model.moe import evaluation_groups
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.run.directory import Run, read_run, start_run
from gshard_mt.train.initialization import find_origin, initial_params, plan_mapping
from gshard_mt.train.loop import train
from gshard_mt.train.step import sides
from gshard_mt.train.training import Options
from tests.making.made_up import english_sentences, write_made_up, write_recipe
from tests.making.phrases import sentence
from tests.making.programs import SharedSteps
from tests.making.runs import assert_same_bits, saved_arrays, tiny_config
from tests.model.tiny import Sentence, pack

LENGTHS = {"eval_every": 9, "save_every": 2, "max_checkpoints": 9, "optimizer": "adamw"}


@pytest.fixture(scope="module", autouse=True)
def shared_steps():
    with pytest.MonkeyPatch.context() as patch:
        SharedSteps().install(patch)
        yield


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


@pytest.fixture(scope="module")
def experts_run(config, prepared, tmp_path_factory):
    """A run with four experts, as its first checkpoint leaves it."""
    workdir = tmp_path_factory.mktemp("experts")
    experts = tiny_config(config, MeshConfig(), 4, num_steps=2, **LENGTHS)
    start_run(workdir, record_of(experts, prepared, None))
    mesh = build_mesh(2, 4)
    blueprint = abstract_model(experts.model, prepared.vocab_sizes, mesh, shard_parameters=True)
    checkpoints = Checkpoints(workdir, max_checkpoints=1)
    params = draw_like(blueprint.params, seed=1)
    checkpoints.save(2, params, params["encoder_norm"], {}, {})
    checkpoints.close()
    return workdir


def draw_like(params, seed: int):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda like: jax.device_put(rng.normal(size=like.shape).astype("f"), like.sharding), params
    )


def begin_on_every_mesh(run, config: Config, tokenizer) -> list[str]:
    """Asserts that a new run begins with the same parameters on each, sharded as it should be.

    Returns what is printed.
    """
    origin, found, lines = find_origin(f"{run}@latest", None, run / "none"), [], []
    assert origin
    for shape, is_sharded in MESHES.values():
        mesh = build_mesh(*shape, devices=jax.devices()[: np.prod(shape)])
        config.mesh.shard_parameters = is_sharded
        with jax.set_mesh(mesh):
            blueprint = abstract_model(config.model, tokenizer.vocab_sizes, mesh, is_sharded)
            mapping = plan_mapping(origin, config, blueprint, tokenizer)
            lines = mapping.lines
            began = initial_params(mapping, blueprint, draw_like(blueprint.params, seed=0))
        assert jax.tree.all(
            jax.tree.map(lambda x, like: x.sharding == like.sharding, began, blueprint.params)
        )
        found.append(jax.tree.map(np.asarray, began))
    for other in found[1:]:
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-6), other, found[0]
        )
    return lines


def test_a_dense_model_becomes_experts_and_deeper_alike_on_every_mesh(config, prepared, run):
    experts = tiny_config(config, MeshConfig(), 8, num_steps=2, **LENGTHS)
    experts.model.moe.shared_ffn_dim = 16
    experts.init = InitConfig(expert_noise=0.1, reset_share=0.5)
    lines = begin_on_every_mesh(run, experts, load_tokenizer(prepared.directory))
    assert lines[1:] == [
        "2 layers are added to 2 and change nothing at first",
        "every other dense feed-forward becomes 8 experts",
    ]


def test_experts_layers_and_subwords_become_more_alike_on_every_mesh(config, experts_run):
    more = tiny_config(config, MeshConfig(), 8, num_steps=2, **LENGTHS)
    more.model.num_layers = 8
    more.init = InitConfig(expert_noise=0.1, added_layers="repeat")
    model = sentencepiece.SentencePieceProcessor(
        model_proto=train_model(english_sentences(), 310, "size", user_symbols=["<x>"])
    )
    lines = begin_on_every_mesh(experts_run, more, Tokenizer(model, model, "another"))
    assert lines[1:3] == [
        "4 layers are added to 4 and repeat others",
        "each expert becomes 2 experts",
    ]


def test_old_vectors_and_logits_stay_when_the_tokenizer_is_extended(
    dense, prepared, alone, run, tmp_path
):
    data = write_made_up(tmp_path)
    lines = [f"{sentence(number, 'es')}\t{sentence(number, 'en')}\n" for number in range(300)]
    (tmp_path / "es.tsv").write_text("".join(lines), encoding="utf-8")
    write_recipe(tmp_path, [{"language": "es", "source": "tsv:es.tsv", "license": "x"}])
    data.source_length, data.target_length = 150, 150
    data.extend_tokenizer = str(prepared.directory)
    data.source_vocab_size, data.target_vocab_size = 360, 310
    prepare(data, tmp_path / "data")
    old, new = load_tokenizer(prepared.directory), load_tokenizer(tmp_path / "data")
    assert (old.vocab_sizes, new.vocab_sizes) == ((330, 290), (360, 310))
    # Old text whose ids stay.
    source, english = zip(*prepared.references("de-en", "test"), strict=True)
    ids = [(each.encode_source(source), each.encode_target(english)) for each in (old, new)]
    before, after = ([*zip(*each, strict=True)] for each in ids)
    same = [x for x, y in zip(before, after, strict=True) if x == y]
    assert len(same) > 2
    batch = pack([[Sentence(*map(np.array, each))] for each in same], 64)

    found, params = {}, {}
    for name, tokenizer in (("old", old), ("new", new)):
        with jax.set_mesh(alone):
            blueprint = abstract_model(dense.model, tokenizer.vocab_sizes, alone)
            fresh = jax.tree.map(lambda like: np.full(like.shape, 9.0), blueprint.params)
            origin = find_origin(str(run), None, tmp_path / "none")
            assert origin
            mapping = plan_mapping(origin, dense, blueprint, tokenizer)
            params[name] = initial_params(mapping, blueprint, fresh)
            found[name] = logits(blueprint, dense, params[name], batch)
    for side, size in (("source", 330), ("target", 290)):
        before, after = (
            np.asarray(params[each][f"{side}_embedding_VM"]) for each in ("old", "new")
        )
        np.testing.assert_array_equal(after[:size], before)
        spelled = spell_pieces(getattr(new, side), getattr(old, side))[size:]
        means = [before[ids].mean(axis=0) for ids in spelled]
        np.testing.assert_allclose(after[size:], means, rtol=1e-5, atol=1e-7)
    # A matrix product of another width may add in another order.
    np.testing.assert_allclose(found["new"][..., :290], found["old"], rtol=0, atol=1e-5)


def logits(blueprint, config: Config, params, batch) -> np.ndarray:
    def run(params, batch):
        model, groups = blueprint.build(params), evaluation_groups(config.model)
        source, target = sides(batch)
        memory_BLM, _ = model.encode(source, groups)
        return model.logits(model.decode(memory_BLM, source.segment_BL, target, groups)[0])

    return np.asarray(jax.jit(run)(params, batch))[batch.target_segment_BT != 0]


def test_an_export_is_begun_from_as_the_run_that_it_was_made_of(
    config, prepared, experts_run, tmp_path
):
    experts = tiny_config(config, MeshConfig(), 8, num_steps=2, **LENGTHS)
    tokenizer, mesh = load_tokenizer(prepared.directory), build_mesh(2, 4)
    exported = {"run": experts_run}
    for dtype in ("float32", "bfloat16"):
        exported[dtype] = tmp_path / dtype
        write = functools.partial(write_safetensors, max_bytes=20_000)
        export(experts_run, tmp_path / dtype, dtype=dtype, write=write)
    found, lines = {}, {}
    with jax.set_mesh(mesh):
        blueprint = abstract_model(experts.model, tokenizer.vocab_sizes, mesh)
        fresh = jax.tree.map(lambda like: np.full(like.shape, 9.0), blueprint.params)
        for name, folder in exported.items():
            origin = find_origin(str(folder), None, tmp_path / "none")
            assert origin and (origin.run, origin.step) == (str(folder.resolve()), 2)
            mapping = plan_mapping(origin, experts, blueprint, tokenizer)
            found[name] = jax.tree.leaves(initial_params(mapping, blueprint, fresh))
            lines[name] = mapping.lines
    for array, same, rounded in zip(found["run"], found["float32"], found["bfloat16"], strict=True):
        np.testing.assert_array_equal(same, array)
        np.testing.assert_allclose(rounded, array, rtol=2**-8)
    assert lines["bfloat16"][0] == f"begins from {tmp_path}/bfloat16@2, an export in bfloat16"

    with pytest.raises(CheckpointError, match="an export of step 2; accepted: "):
        find_origin(f"{tmp_path}/float32@best", None, tmp_path / "none")

    file = sorted((tmp_path / "float32").glob("*.safetensors"))[0]
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")  # a run that began with it, and has no checkpoint yet
    origin = find_origin(str(tmp_path / "float32"), None, tmp_path / "none")
    file.write_bytes(content)
    assert origin
    mapping = plan_mapping(origin, experts, blueprint, tokenizer)
    with pytest.raises(CheckpointError, match="not the parameters that this run began with"):
        initial_params(mapping, blueprint, fresh)
    for damage, message in (
        (lambda: file.write_bytes(content[:-9]), "can't be read .*; export the run again"),
        (file.unlink, "found array .* missing, not"),
        (lambda: (file.parent / "config.json").write_text("{"), "not JSON .*; export the run"),
    ):
        damage()
        with pytest.raises(CheckpointError, match=message) as raised:
            origin = find_origin(str(file.parent), None, tmp_path / "none")
            assert origin
            plan_mapping(origin, experts, blueprint, tokenizer)
        assert "\n" not in str(raised.value)


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
