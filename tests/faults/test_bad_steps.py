"""Steps whose loss is not finite or a spike stop the run or are skipped, and are recorded."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import dataclasses
import io
import json
import pathlib
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.config.records import Config, MeshConfig
from gshard_mt.data.batches import train_batches
from gshard_mt.data.prepared import Prepared
from gshard_mt.errors import TrainingError
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.train import step as step_module
from gshard_mt.train.bad_steps import WINDOW, LossStatistics, check_step, update
from gshard_mt.train.loop import train
from tests.making.programs import SharedSteps
from tests.making.runs import saved_arrays, tiny_config

BAD, SPIKE = 6, 8  # the steps whose batches are poisoned
CROSS_ENTROPY = step_module.cross_entropy


class Poisoned(NamedTuple):
    """A run with two bad batches, and the steps that its starts share."""

    config: Config
    prepared: Prepared
    labels: dict[int, float]  # a batch's sum of labels -> what its loss is multiplied by
    steps: SharedSteps

    def start(self, workdir: pathlib.Path, **changes) -> bool:
        train_config = dataclasses.replace(self.config.train, **changes)
        changed = dataclasses.replace(self.config, train=train_config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step_module, "cross_entropy", self.cross_entropy)
            patch.setattr("gshard_mt.train.bad_steps.WINDOW", 4)
            self.steps.install(patch)
            alone = build_mesh(1, 1, devices=jax.devices()[:1])
            return train(changed, self.prepared, workdir, alone)

    def cross_entropy(self, predictions, *others):
        loss, factor = CROSS_ENTROPY(predictions, *others), jnp.float32(1.0)
        for labels, value in self.labels.items():
            factor = jnp.where(jnp.sum(predictions.label_BT) == labels, value, factor)
        return loss._replace(smoothed=loss.smoothed * factor)


@pytest.fixture(scope="module")
def poisoned(config, prepared) -> Poisoned:
    lengths = {"num_steps": 10, "eval_every": 100, "save_every": 2, "max_checkpoints": 9}
    run_config = tiny_config(
        config, MeshConfig(1, 1), optimizer="adamw", spike_sigmas=6.0, **lengths
    )
    batches = train_batches(prepared, config, run_config.train.batch_rows)
    labels = [int(next(batches).label_BT.sum()) for _ in range(lengths["num_steps"])]
    batches.close()
    assert len(set(labels)) == len(labels)
    factors = {labels[BAD - 1]: np.nan, labels[SPIKE - 1]: 3.0}
    return Poisoned(run_config, prepared, factors, SharedSteps())


MESSAGE = rf"^step {BAD}: loss .*not finite.*de-en \d+, .*bad_steps/{BAD}\.json.*=skip"


@pytest.fixture(scope="module")
def stopped(poisoned, tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("stopped")
    with pytest.raises(TrainingError, match=MESSAGE):
        poisoned.start(workdir)
    return workdir


@pytest.fixture(scope="module")
def skipped(poisoned, stopped, tmp_path_factory) -> tuple[pathlib.Path, str]:
    """The same run, which then skipped bad steps to its end, and what it printed."""
    workdir = shutil.copytree(stopped, tmp_path_factory.mktemp("skipped") / "run")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert poisoned.start(workdir, bad_steps="skip")
    return workdir, printed.getvalue()


def read_lines(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_loss_that_is_not_finite_stops_the_run_and_so_does_the_same_command_again(
    poisoned, stopped, skipped, tmp_path
):
    saved = {path.name for path in (stopped / "checkpoints").iterdir()}
    assert saved == {"2", "4", str(BAD - 1)}
    (line,) = (line for line in read_lines(stopped) if line["step"] == BAD - 1)
    assert np.isfinite(line["loss"])
    record = json.loads((stopped / "bad_steps" / f"{BAD}.json").read_text())
    assert_records_of_its_batch(poisoned.config, poisoned.prepared, record)
    again = shutil.copytree(stopped, tmp_path / "again")
    with pytest.raises(TrainingError, match=MESSAGE):  # the same command, the same step
        poisoned.start(again)
    assert {line["step"] for line in read_lines(skipped[0])} == {2, 4, BAD - 1, 6, 8, 10} - {6}


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


def test_a_skipped_step_changes_nothing_but_the_number_of_steps(stopped, skipped):
    workdir, printed = skipped
    before, after = saved_arrays(stopped, BAD - 1), saved_arrays(workdir, BAD)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    assert f"skipped     step {BAD}: loss" in printed
    lines = (x for x in read_lines(workdir) if (x["step"], x["split"]) == (SPIKE, "train"))
    (line,) = lines  # of a good step and the spike
    assert line["skipped_steps"] == 1 and np.isfinite(line["loss"])


def test_a_spike_stops_the_run(poisoned, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    assert poisoned.start(workdir, bad_steps="skip", num_steps=SPIKE - 1)
    with pytest.raises(TrainingError, match=rf"^step {SPIKE}: loss \d+\.\d+ is a spike"):
        poisoned.start(workdir)


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
