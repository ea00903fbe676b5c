"""Steps whose loss is not finite or a spike stop the run or are skipped, and are recorded."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.config.records import Config, MeshConfig
from gshard_mt.data.batches import train_batches
from gshard_mt.errors import TrainingError
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.train import step as step_module
from gshard_mt.train.bad_steps import WINDOW, LossStatistics, check_step, update
from gshard_mt.train.loop import train
from tests.making.runs import saved_arrays, tiny_config

BAD = 6  # the step whose batch is poisoned


@pytest.fixture(scope="module")
def run_config(config) -> Config:
    lengths = {"num_steps": 10, "eval_every": 100, "save_every": 4}
    return tiny_config(config, MeshConfig(1, 1), optimizer="adamw", **lengths)


@pytest.fixture
def poison(run_config, prepared, monkeypatch):
    """Replaces the loss of one batch wherever that batch turns up."""
    batches = train_batches(prepared, run_config.data, run_config.train.batch_rows)
    poisoned = [next(batches) for _ in range(BAD)][-1].label_BT.sum()
    batches.close()
    original = step_module.cross_entropy

    def set_loss(value: float) -> None:
        def cross_entropy(predictions, *others):
            loss = original(predictions, *others)
            is_poisoned = jnp.sum(predictions.label_BT) == poisoned
            factor = jnp.where(is_poisoned, value, 1.0)
            return loss._replace(smoothed=loss.smoothed * factor)

        monkeypatch.setattr(step_module, "cross_entropy", cross_entropy)

    return set_loss


def start(config: Config, prepared, workdir, **changes) -> bool:
    changed = dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))
    return train(changed, prepared, workdir, build_mesh(1, 1, devices=jax.devices()[:1]))


def read_lines(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_loss_that_is_not_finite_stops_the_run_and_so_does_the_same_command_again(
    run_config, prepared, poison, monkeypatch, tmp_path
):
    poison(np.nan)
    message = rf"^step {BAD}: loss .*not finite.*de-en \d+, .*bad_steps/{BAD}\.json.*=skip"
    with pytest.raises(TrainingError, match=message):
        start(run_config, prepared, tmp_path)
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert saved == {"4", str(BAD - 1)}
    (line,) = (line for line in read_lines(tmp_path) if line["step"] == BAD - 1)
    assert np.isfinite(line["loss"])
    record = json.loads((tmp_path / "bad_steps" / f"{BAD}.json").read_text())
    assert_records_of_its_batch(run_config, prepared, record)
    with pytest.raises(TrainingError, match=message):  # the same command, the same step
        start(run_config, prepared, tmp_path)
    assert start(run_config, prepared, tmp_path, bad_steps="skip")
    monkeypatch.undo()
    assert {line["step"] for line in read_lines(tmp_path)} == {2, 4, BAD - 1, 6, 8, 10} - {6}


def assert_records_of_its_batch(config: Config, prepared, record: dict) -> None:
    batches = train_batches(prepared, config.data, config.train.batch_rows)
    batch = [next(batches) for _ in range(BAD)][-1]
    batches.close()
    starts = (batch.source_position_BL == 0) & (batch.source_segment_BL > 0)
    for number, pair in enumerate(prepared.language_pairs):
        num_sentences = np.sum(starts & (batch.source_pair_BL == number))
        assert len(record["records"].get(pair, [])) == num_sentences
    pair, ids = next(iter(record["records"].items()))
    assert 1 < len(set(ids)) <= len(prepared.reader(pair, "train"))


def test_a_skipped_step_changes_nothing_but_the_number_of_steps(
    run_config, prepared, poison, tmp_path, capsys
):
    poison(np.nan)
    assert start(run_config, prepared, tmp_path / "six", bad_steps="skip", num_steps=BAD)
    assert start(run_config, prepared, tmp_path / "five", num_steps=BAD - 1)
    before, after = saved_arrays(tmp_path / "five", BAD - 1), saved_arrays(tmp_path / "six", BAD)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    assert f"skipped     step {BAD}: loss" in capsys.readouterr().out
    (line,) = (x for x in read_lines(tmp_path / "six") if (x["step"], x["split"]) == (BAD, "train"))
    assert line["skipped_steps"] == 1 and np.isfinite(line["loss"])


def test_a_spike_stops_the_run(run_config, prepared, poison, monkeypatch, tmp_path):
    poison(3.0)
    monkeypatch.setattr("gshard_mt.train.bad_steps.WINDOW", 4)
    with pytest.raises(TrainingError, match=rf"^step {BAD}: loss \d+\.\d+ is a spike"):
        start(run_config, prepared, tmp_path, spike_sigmas=6.0)


def test_the_statistics_are_mean_and_deviation_of_the_last_losses():
    rng = np.random.default_rng(0)
    losses = rng.normal(4.0, 0.1, WINDOW).astype(np.float32)
    statistics = LossStatistics.initial()
    run = jax.jit(lambda statistics, loss: check_and_update(statistics, loss)[0])
    for loss in losses:
        statistics = run(statistics, loss)
    assert statistics.count == WINDOW
    np.testing.assert_allclose(statistics.mean, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(statistics.variance), losses.std(), rtol=1e-4)
    is_far = 0.5 > 6 * losses.std() + losses.mean() - 4.0
    assert check_and_update(statistics, 4.0 + 5 * 0.1)[1].is_bad == is_far
    assert check_and_update(statistics, 5.0)[1].is_spike
    assert not check_and_update(statistics, 3.0)[1].is_bad
    assert not check_and_update(LossStatistics.initial(), 100.0)[1].is_bad  # no limit yet
    spike, one = jnp.float32(100.0), jnp.float32(1.0)
    assert not check_step(statistics, spike, one, spike_sigmas=0.0).is_bad  # disabled
    for loss in (np.nan, np.inf, -np.inf):
        kept, check = check_and_update(statistics, loss)
        assert check.is_not_finite and not check.is_spike
        assert all(map(np.array_equal, kept, statistics))
    assert LossStatistics.from_saved(statistics.to_saved()) == statistics


def check_and_update(statistics: LossStatistics, loss):
    check = check_step(statistics, jnp.float32(loss), jnp.float32(1.0), spike_sigmas=6.0)
    return update(statistics, check, halts=False), check
