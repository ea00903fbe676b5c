"""The training loop: a restart, at any step and on any mesh, changes nothing."""
# SPDX-License-Identifier: Apache-2.0

import copy
import dataclasses
import json
import re
import shutil
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from gshard_mt.config.checks import check
from gshard_mt.config.records import (
    Config,
    MeshConfig,
    ModelConfig,
    TrainConfig,
)
from gshard_mt.config.stages import StageConfig
from gshard_mt.data.batches import train_batches
from gshard_mt.errors import CheckpointError, ConfigError, TrainingError
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.train.loop import train
from gshard_mt.train.training import Options
from tests.making.less_data import leave_out
from tests.making.programs import SharedSteps
from tests.making.runs import CLOCKS, TIME, saved_arrays, tiny_config

STEPS = 8


@pytest.fixture(scope="module", autouse=True)
def shared_steps():
    """Runs share compiled steps; tests/faults compares what a fresh process computes."""
    with pytest.MonkeyPatch.context() as patch:
        SharedSteps().install(patch)
        yield


@pytest.fixture(scope="module")
def run_config(config) -> Config:
    """With dropout and the random second expert: a restart must draw the same numbers."""
    lengths = {"num_steps": STEPS, "eval_every": 4, "save_every": 4, "max_checkpoints": 9}
    return tiny_config(config, MeshConfig(1, 4), 8, **lengths)


@pytest.fixture(scope="module")
def alone():
    return build_mesh(1, 1, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def dense_config(config) -> Config:
    lengths = {"num_steps": STEPS, "eval_every": 4, "save_every": 4, "max_checkpoints": 9}
    return tiny_config(config, MeshConfig(1, 1), optimizer="adamw", **lengths)


def run(config: Config, prepared, workdir, steps: int, mesh=None, change_mixture=False) -> None:
    config.train.num_steps = steps
    mesh = mesh or build_mesh(1, 4, devices=jax.devices()[:4])
    train(config, prepared, workdir, mesh, Options(change_mixture))


@pytest.mark.soak  # each part is proved by itself: the state, the step, the order of the data
def test_a_run_resumes_without_its_stages_and_sharded_parameters(config, prepared, alone, tmp_path):
    """A dense model with dropout: two steps in a pipeline, two on one device; or all on one."""

    def make(mesh: MeshConfig) -> Config:
        model = ModelConfig(model_dim=16, ffn_dim=32, num_heads=2, head_dim=8)
        model.moe.num_experts = 0
        return Config(
            data=config,
            model=model,
            train=TrainConfig(
                batch_rows=16,
                accumulation_steps=4,
                schedule="constant",
                optimizer="adamw",
                log_every=2,
                eval_every=2,
                save_every=2,
            ),
            mesh=mesh,
        )

    in_stages = make(MeshConfig(data=4, expert=1, stage=2, shard_parameters=True))
    check(in_stages)
    run(in_stages, prepared, tmp_path / "both", 2, build_mesh(*in_stages.mesh.shape()))
    run(make(MeshConfig()), prepared, tmp_path / "both", 4, alone)
    run(make(MeshConfig()), prepared, tmp_path / "one", 4, alone)
    wanted = saved_arrays(tmp_path / "one", 4)
    for name, array in saved_arrays(tmp_path / "both", 4).items():
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(array, wanted[name], rtol=0, atol=1e-5 * scale, err_msg=name)
    nlls = [
        [json.loads(line)["nll"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("both", "one")
    ]
    np.testing.assert_allclose(*nlls, rtol=1e-5)


class Translations:
    """Those of dev sentences, whose BLEU is the next of a list."""

    def __init__(self, bleu: Sequence[float]):
        self._bleu = iter(bleu)

    def bleu(self, params) -> dict[str, float]:
        return {"de-en": next(self._bleu)}

    def show(self, params) -> list[str]:
        return ["hypothesis  so good"]


def metrics(workdir) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:  # times differ
        for key in CLOCKS:
            line.pop(key, None)
    return lines


@pytest.fixture(scope="module")
def undisturbed(run_config, prepared, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    run(run_config, prepared, workdir, STEPS)
    return workdir


@pytest.fixture
def half_way(undisturbed, tmp_path):
    """A copy of the run without its last checkpoint: it resumes in the middle."""
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    return workdir


def test_a_restarted_run_equals_an_undisturbed_one_bit_for_bit(
    run_config, prepared, undisturbed, half_way
):
    run(run_config, prepared, half_way, STEPS)
    expected, found = saved_arrays(undisturbed, STEPS), saved_arrays(half_way, STEPS)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert metrics(half_way) == metrics(undisturbed)  # data order included: token counts are in it
    routing = [(path / "routing.jsonl").read_text() for path in (half_way, undisturbed)]
    assert routing[0] == routing[1]


def test_routing_lines_count_every_moe_layer_by_language_pair(prepared, undisturbed):
    text = (undisturbed / "routing.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    layers = [(line["step"], line["stack"], line["layer"]) for line in lines]
    assert layers == [(step, stack, 0) for step in (4, 8) for stack in ("decoder", "encoder")]
    training = {line["step"]: line for line in metrics(undisturbed) if line["split"] == "train"}
    for line in lines:
        side = "source_tokens" if line["stack"] == "encoder" else "target_tokens"
        assert line["pairs"] == list(prepared.language_pairs)
        assert min(line["tokens"]) > 0
        assert sum(line["tokens"]) == training[line["step"]][side]
        assert [sum(sent) for sent in line["sent"]] == line["tokens"]
        sent = [sum(n * count for n, count in enumerate(row)) for row in line["sent"]]
        assert sent == [sum(load) for load in line["load"]]


@pytest.mark.soak
def test_a_run_resumes_on_another_mesh_with_the_same_losses(
    run_config, prepared, undisturbed, half_way
):
    run(run_config, prepared, half_way, STEPS, build_mesh(2, 2, devices=jax.devices()[:4]))
    lines = metrics(half_way)
    assert {line["step"] for line in lines if line["split"] == "train"} == {2, 4, 6, 8}
    for found, expected in zip(lines, metrics(undisturbed), strict=True):
        for key in ("step", "split", "pair"):
            assert found.get(key) == expected.get(key)
        assert found["nll"] == pytest.approx(expected["nll"], rel=1e-5)


def test_a_run_resumes_with_an_added_language(dense_config, prepared, alone, tmp_path):
    less, workdir = leave_out(prepared, "lb-en", tmp_path / "less"), tmp_path / "run"
    run(dense_config, less, workdir, 2, alone)
    with pytest.raises(CheckpointError, match="--change_mixture"):
        run(dense_config, prepared, workdir, 4, alone)
    run(dense_config, prepared, workdir, 4, alone, change_mixture=True)
    run(
        dense_config, prepared, workdir, 4, alone
    )  # finished: only reads the checkpoint, needs no flag
    (line,) = map(json.loads, (workdir / "mixtures.jsonl").read_text().splitlines())
    assert line["step"] == 2
    assert line["old"]["data"] == less.fingerprint
    assert line["new"]["data"] == prepared.fingerprint
    assert line["new"]["pairs"].keys() - line["old"]["pairs"].keys() == {"lb-en"}
    assert "lb-en" in {line.get("pair") for line in metrics(workdir) if line["step"] == 4}
    # What the run has read since then is what the stream yields after that position.
    batches = train_batches(prepared, dense_config.data, dense_config.train.batch_rows)
    assert batches.change_mixture(line["old"]) == line["new"]
    read = [next(batches) for _ in range(2)]
    (found,) = (line for line in metrics(workdir) if (line["step"], line["split"]) == (4, "train"))
    assert found["target_tokens"] == sum(int((b.target_segment_BT != 0).sum()) for b in read)
    assert found["source_tokens"] == sum(int((b.source_segment_BL != 0).sum()) for b in read)
    saved = (workdir / "checkpoints" / "4" / "state" / "metadata").read_text()
    assert json.loads(saved)["record"]["state"]["batches"] == batches.get_state()
    batches.close()


def test_a_finished_run_says_so_and_its_log_has_every_start(
    dense_config, prepared, alone, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("gshard_mt.train.training.peak_flops", lambda mesh: 1e12)
    said = []
    for steps in (2, 2, 1):
        run(dense_config, prepared, tmp_path, steps, alone)
        said.append(TIME.sub("", capsys.readouterr().out).splitlines())
    assert said[0][-1].startswith("step 2: dev nll ")
    assert said[1][-1] == "finished    at step 2; nothing to do"
    assert said[2][-1] == "finished    at step 2, beyond train.num_steps=1; nothing to do"
    assert not [line for line in sum(said, []) if line.startswith("resuming")]
    log = TIME.sub("", (tmp_path / "train.log").read_text()).splitlines()
    (step,) = [line for line in log if line.startswith("train ")]
    assert re.match(r"train       2 of 2 steps, loss [\d.]+, [\d,]+ tok/s, [\d.]+% MFU", step)
    printed = [line for line in log if line.split()[0] not in ("started", "train")]
    assert [line for line in printed if not line.startswith("compil")] == sum(said, [])
    assert sum(line.startswith("started ") for line in log) == 3


def test_a_run_ends_early_after_evaluations_without_improvement(
    dense_config, prepared, alone, tmp_path
):
    bleu = [5.0, 7.0, 6.0, 7.0, 9.0]
    options = Options(dev=Translations(bleu))
    config, mesh = copy.deepcopy(dense_config), alone
    config.train.num_steps, config.train.save_every = 12, 6
    config.train.bleu_every, config.train.best_by, config.train.stop_after = 2, "bleu", 2
    train(config, prepared, tmp_path, mesh, options)
    lines = metrics(tmp_path)
    assert [line["bleu"] for line in lines if "bleu" in line] == [5.0, 7.0, 6.0, 7.0]
    assert max(line["step"] for line in lines) == 8
    checkpoints = Checkpoints(tmp_path, best_by="bleu")
    assert (checkpoints.steps(), checkpoints.choose("best")) == ([6, 8], 8)  # 4 was not saved
    train(config, prepared, tmp_path, mesh, options)  # nothing left to do
    assert metrics(tmp_path) == lines
    config.train.stop_after = 3
    config.train.num_steps = 10  # the schedule is constant
    train(config, prepared, tmp_path, mesh, options)
    assert Checkpoints(tmp_path, best_by="bleu").choose("best") == 10


def test_early_stopping_and_the_best_begin_anew_with_other_data(
    dense_config, prepared, alone, tmp_path, capsys
):
    less, workdir = leave_out(prepared, "lb-en", tmp_path / "less"), tmp_path / "run"
    config = copy.deepcopy(dense_config)
    config.train.save_every = config.train.bleu_every = 2
    config.train.best_by, config.train.stop_after = "bleu", 2
    for data, steps, bleu in ((less, 4, [9.0, 8.0]), (prepared, 12, [3.0, 4.0, 3.5, 3.5])):
        config.train.num_steps = steps
        train(config, data, workdir, alone, Options(data is prepared, dev=Translations(bleu)))
    said = capsys.readouterr().out
    assert said.count("best        is chosen anew: other data have other dev sets") == 1
    # 3 is not the second evaluation in a row without a gain over 9.
    assert max(line["step"] for line in metrics(workdir)) == 12
    assert Checkpoints(workdir, best_by="bleu").choose("best") == 8
    config.train.num_steps = 14
    train(config, prepared, workdir, alone, Options())  # ended early; nothing is said again
    assert "chosen anew" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def staged(dense_config, prepared, alone, tmp_path_factory):
    """A config with a border after step 4, and its run, whose checkpoints are all kept."""
    config, workdir = copy.deepcopy(dense_config), tmp_path_factory.mktemp("staged")
    config.train.log_every = config.train.save_every = 1
    weights = {"*": 1.0, "fr": 0.0}
    config.train.stages = (
        StageConfig(until=4, weights=weights, rate=0.5),
        StageConfig(weights={"fr": 3}, temperature=1.0),
    )
    run(config, prepared, workdir, STEPS, alone)
    return config, workdir


@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_run_resumed_around_the_border_of_a_stage_equals_an_undisturbed_one_bit_for_bit(
    staged, prepared, alone, tmp_path, step, capsys
):
    config, undisturbed = staged
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    for later in range(step + 1, STEPS + 1):
        shutil.rmtree(workdir / "checkpoints" / str(later))
    run(config, prepared, workdir, STEPS, alone)
    expected, found = saved_arrays(undisturbed, STEPS), saved_arrays(workdir, STEPS)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert metrics(workdir) == metrics(undisturbed)
    lines = TIME.sub("", capsys.readouterr().out).splitlines()
    said = [line for line in lines if line.startswith("stage ")]
    first = "stage       1 of 2, steps 1 to 4: learning rate x 0.5, weights * 1, fr 0"
    second = "stage       2 of 2, steps 5 to 8: learning rate x 1, temperature 1, weights fr 3"
    assert said == ([first, second] if step == 3 else [second])


def test_a_stage_scales_the_learning_rate(staged):
    config, workdir = staged
    peak = config.train.learning_rate
    rates = [line["learning_rate"] for line in metrics(workdir) if line["split"] == "train"]
    assert rates[2:] == pytest.approx([peak / 2] * 2 + [peak] * 4)


def test_stages_that_have_begun_change_with_the_mixture_only(staged, prepared, alone, tmp_path):
    config, undisturbed = staged
    workdir, other = shutil.copytree(undisturbed, tmp_path / "run"), copy.deepcopy(config)
    other.train.stages = other.train.stages[1:]
    with pytest.raises(ConfigError, match=r"train\.stages .* own values, --change_mixture or an"):
        run(other, prepared, workdir, STEPS, alone)
    for later in range(4, STEPS + 1):
        shutil.rmtree(workdir / "checkpoints" / str(later))
    run(other, prepared, workdir, STEPS, alone, change_mixture=True)
    (line,) = map(json.loads, (workdir / "mixtures.jsonl").read_text().splitlines())
    assert (line["step"], line["new"]["step"], line["new"]["temperature"]) == (3, 3, 1.0)
    assert line["new"]["pairs"]["fr-en/fr"]["weight"] == 3


def test_a_finished_run_goes_on_with_another_stage(staged, prepared, alone, tmp_path):
    config, undisturbed = staged
    workdir, other = shutil.copytree(undisturbed, tmp_path / "run"), copy.deepcopy(config)
    first, last = config.train.stages
    third = StageConfig(weights={"*": 0, "lb": 1}, rate=0.1)
    other.train.stages = (first, dataclasses.replace(last, until=STEPS), third)
    run(other, prepared, workdir, STEPS + 2, alone)
    assert not (workdir / "mixtures.jsonl").exists() or not (workdir / "mixtures.jsonl").read_text()
    rates = [line["learning_rate"] for line in metrics(workdir) if line["split"] == "train"]
    assert rates[-3:] == pytest.approx(np.multiply([1, 0.1, 0.1], config.train.learning_rate))


def test_early_stopping_waits_for_the_last_stage(dense_config, prepared, alone, tmp_path):
    bleu = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    config = copy.deepcopy(dense_config)
    config.train.num_steps, config.train.stages = 12, (StageConfig(until=5), StageConfig())
    config.train.bleu_every, config.train.best_by, config.train.stop_after = 2, "bleu", 2
    train(config, prepared, tmp_path, alone, Options(dev=Translations(bleu)))
    assert max(line["step"] for line in metrics(tmp_path)) == 8  # without stages it would be 6


def test_weights_of_an_unknown_corpus_leave_no_run_behind(dense_config, prepared, alone, tmp_path):
    config = copy.deepcopy(dense_config)
    config.train.stages = (StageConfig(weights={"frr": 3}),)
    with pytest.raises(ConfigError, match="did you mean fr"):
        run(config, prepared, tmp_path / "run", STEPS, alone)
    assert not (tmp_path / "run").exists()


def test_the_model_learns(undisturbed):
    dev = [line for line in metrics(undisturbed) if line["split"] == "dev"]
    first = [line["nll"] for line in dev if line["step"] == 4]
    last = [line["nll"] for line in dev if line["step"] == STEPS]
    assert len(last) == 3 and np.mean(last) < np.mean(first)


def test_metrics_have_the_fields_of_the_contract(undisturbed):
    lines = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    training = next(line for line in lines if line["split"] == "train")
    assert training.keys() == {
        *("step", "split", "loss", "nll", "aux_loss", "learning_rate", "grad_norm"),
        *("source_tokens", "target_tokens", "tokens_per_second", "moe_dropped_fraction"),
        *("seconds", "input_seconds", "compile_seconds"),
    }
    dev = next(line for line in lines if line["split"] == "dev")
    assert dev.keys() == {"step", "split", "pair", "nll", "target_tokens"}


def test_a_run_directory_of_another_config_is_refused(run_config, prepared, undisturbed):
    other = Config(run_config.data, run_config.model, run_config.train, run_config.mesh)
    other.model = dataclasses.replace(run_config.model, dropout_rate=0.3)
    with pytest.raises(ConfigError, match=r"model\.dropout_rate"):
        run(other, prepared, undisturbed, STEPS)
    other.model = run_config.model
    other.train = dataclasses.replace(run_config.train, save_every=3)
    with pytest.raises(ConfigError, match=r"train\.save_every"):
        run(other, prepared, undisturbed, STEPS)


def test_a_lack_of_memory_names_the_parameters(
    dense_config, prepared, tmp_path, alone, monkeypatch
):
    def step(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 4294967296 bytes.")

    monkeypatch.setattr("gshard_mt.train.training.make_train_step", lambda *arguments: step)
    expected = (
        r"out of memory \(an allocation of 4,096 MiB was refused\) with [\d,]+ parameters and "
        "their optimizer on one device; gshard-plan"
    )
    with pytest.raises(TrainingError, match=expected):
        train(dense_config, prepared, tmp_path / "run", alone)
