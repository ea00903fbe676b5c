"""metrics.jsonl resumes at the checkpoint, and its lines sum up the steps since the last one."""
# SPDX-License-Identifier: Apache-2.0

import json
import resource
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from gshard_mt.errors import TrainingError
from gshard_mt.routing.counters import Counters
from gshard_mt.run.journal import routing_lines, summarize
from gshard_mt.train.bad_steps import StepCheck
from gshard_mt.train.loss import TokenLoss
from gshard_mt.train.metrics import MetricsLog, StepSums
from gshard_mt.train.step import StepMetrics


def scalar(value) -> Any:
    """A scalar as `jax.device_get` returns it."""
    return np.float32(value)


def read(workdir) -> list[dict]:
    text = (workdir / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write(workdir, from_step: int, steps) -> None:
    log = MetricsLog(workdir, from_step)
    for step in steps:
        log.write({"step": step, "split": "train", "loss": step / 10, "from": from_step})
    log.close()


def test_lines_are_appended_as_they_come(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.write({"step": 1, "split": "train", "loss": 0.5})
    log.write({"step": 1, "split": "dev", "pair": "de-en", "nll": 0.25})
    assert read(tmp_path) == [  # before it is closed: a killed run keeps its lines
        {"step": 1, "split": "train", "loss": 0.5},
        {"step": 1, "split": "dev", "pair": "de-en", "nll": 0.25},
    ]
    log.close()
    assert list((tmp_path / "tensorboard").iterdir())


def test_lines_after_the_step_resumed_from_are_dropped(tmp_path):
    write(tmp_path, 0, [1, 2, 3, 4, 5])
    write(tmp_path, 3, [4, 5, 6])
    found = [(line["step"], line["from"]) for line in read(tmp_path)]
    assert found == [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3), (6, 3)]
    write(tmp_path, 0, [1])
    assert [line["step"] for line in read(tmp_path)] == [1]


@pytest.mark.parametrize("half", ['{"step": 3, "spl', '{"step": 3}'[:-1], "{", '{"loss": 1}'])
def test_a_line_that_was_being_written_is_dropped(tmp_path, half):
    write(tmp_path, 0, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(half)
    write(tmp_path, 2, [3])
    assert [line["step"] for line in read(tmp_path)] == [1, 2, 3]
    assert not list(tmp_path.glob("*.tmp"))


def events_of(path) -> list:
    """What TensorBoard reads: records of a length, its checksum, the event, its checksum."""
    content, events = path.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        event = event_pb2.Event()  # type: ignore[attr-defined]
        event.ParseFromString(content[12 : 12 + size])
        events.append(event)
        content = content[16 + size :]
    return events


def test_tensorboard_shows_what_the_last_start_of_the_run_wrote(tmp_path):
    write(tmp_path, 0, [1, 2, 3])
    time.sleep(1.1)  # a file's name has the second it was opened in
    write(tmp_path, 2, [3, 4])
    first, second = map(events_of, sorted((tmp_path / "tensorboard").iterdir()))
    for events, start in ((first, 0), (second, 2)):
        assert events[0].file_version == "brain.Event:2"
        assert events[1].session_log.status == 1  # START
        assert events[1].step == start + 1  # from which on older files are not shown
    found = [
        (event.step, value.tag, value.simple_value)
        for event in second[2:]
        for value in event.summary.value
    ]
    assert found == [
        (step, f"train/{key}", pytest.approx(value))
        for step in (3, 4)
        for key, value in (("loss", step / 10), ("from", 2))
    ]


@pytest.mark.parametrize(
    "line", [{"step": 1, "split": "train", "note": "x" * 90}, {"step": 1, "split": "a", "b": 1.0}]
)
def test_a_full_disk_is_one_line_whichever_file_it_affects(tmp_path, line):
    log = MetricsLog(tmp_path, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(TrainingError, match=r"can't write metrics \(File too large\)"):
            for _ in range(1000):
                log.write(line)
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert max(sizes) == 4096


NO = jnp.array(False)
GOOD = StepCheck(NO, NO, NO, scalar(0.0), scalar(np.inf))


def metrics(number: int, routing=True) -> StepMetrics:
    layer = Counters(  # of two language pairs and three experts
        num_tokens_X=jnp.array([60, 40]),
        num_dispatched_XK=jnp.array([[6, 10, 44], [4, 10, 26]]),
        num_selected_XK=jnp.array([[60, 50], [40, 40]]),
        num_over_capacity_XK=jnp.array([[3, 2], [2, 4]]),
        load_XE=jnp.array([[50, 30, 18], [30, 20, 12]]),
        entropy_X=jnp.array([30.0, 20.0], jnp.float32),
    )
    stack = jax.tree.map(lambda array: number * jnp.stack([array, array]), layer)
    return StepMetrics(
        TokenLoss(scalar(40.0 * number), scalar(60.0 * number), scalar(20 * number)),
        scalar(3.0 * number),
        {"encoder": stack} if routing else {},
        scalar(30 * number),
        scalar(number),
        scalar(0.1 * number),
        GOOD,
    )


def test_a_line_weights_steps_by_their_tokens():
    sums = StepSums()
    sums.add(metrics(1)._replace(token_loss=TokenLoss(*map(scalar, (10.0, 20.0, 10)))))
    sums.add(metrics(1)._replace(token_loss=TokenLoss(*map(scalar, (90.0, 60.0, 30)))))
    line = sums.drain(7)
    assert (line["step"], line["split"]) == (7, "train")
    assert line["nll"] == pytest.approx(100 / 40)
    assert line["loss"] == pytest.approx(80 / 40)
    assert line["target_tokens"] == 40
    seconds = line["seconds"] - line["compile_seconds"]
    assert line["tokens_per_second"] == pytest.approx(40 / seconds)


def test_a_line_covers_only_the_steps_since_the_last_one():
    sums = StepSums()
    for number in (1, 2, 3):
        sums.add(metrics(number))
    line = sums.drain(3)
    assert line["source_tokens"] == 30 * 6
    assert line["aux_loss"] == pytest.approx(3.0 * 6 / 3 / 2)  # a mean over steps and MoE layers
    assert line["moe_dropped_fraction"] == pytest.approx(0.1)
    assert (line["grad_norm"], line["learning_rate"]) == pytest.approx((3.0, 0.3))
    sums.add(metrics(4))
    assert sums.drain(4)["source_tokens"] == 30 * 4
    json.dumps(line)


def test_utilization_is_the_models_flops_over_the_peak():
    sums = StepSums(step_flops=5e12, peak_flops=8e12)
    for number in (1, 2):
        sums.add(metrics(number))
    line = sums.drain(2)
    seconds = line["seconds"] - line["compile_seconds"]
    assert line["mfu"] == pytest.approx(2 * 5e12 / 8e12 / seconds)
    sums = StepSums(step_flops=5e12)  # hardware whose peak is unknown
    sums.add(metrics(1))
    assert "mfu" not in sums.drain(1)


def test_a_dense_model_drops_nothing():
    sums = StepSums()
    sums.add(metrics(1, routing=False)._replace(aux_loss=scalar(0)))
    line = sums.drain(1)
    assert (line["moe_dropped_fraction"], line["aux_loss"]) == (0.0, 0.0)


def test_time_spent_on_other_things_is_not_training_time(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    sums = StepSums()
    sums.add(metrics(1))
    clock[0] += 2.0
    assert sums.drain(1)["tokens_per_second"] == pytest.approx(10.0)
    clock[0] += 50.0  # an evaluation
    sums.skip_time()
    sums.add(metrics(2))
    clock[0] += 4.0
    assert sums.drain(2)["tokens_per_second"] == pytest.approx(10.0)


def test_routing_lines_have_the_layers_counts_and_their_fractions():
    sums = StepSums()
    sums.add(metrics(1))
    sums.add(metrics(2))
    sums.drain(8)
    first, second = routing_lines(8, sums.routing, ["de-en", "lb-en"])
    assert (first["step"], first["stack"], first["layer"]) == (8, "encoder", 0)
    assert (second["layer"], second["pairs"]) == (2, ["de-en", "lb-en"])
    assert first["sent"] == [[18, 30, 132], [12, 30, 78]]
    assert json.loads(json.dumps(first)) == first
    found = summarize(first)
    assert found["sent_to_0"] == pytest.approx(0.1)
    assert found["sent_to_2"] == pytest.approx(0.7)
    assert found["over_capacity_1"] == pytest.approx(5 / 100)
    assert found["over_capacity_2"] == pytest.approx(6 / 90)
    assert found["max_load"] == pytest.approx(80 / 160 * 3)
    assert found["entropy"] == pytest.approx(0.5)


def test_routing_lines_resume_at_the_checkpoint(tmp_path):
    sums = StepSums()
    sums.add(metrics(1))
    sums.drain(1)
    for from_step in (0, 1):
        log = MetricsLog(tmp_path, from_step)
        for step in (1, 2):
            for line in routing_lines(step, sums.routing, ["de-en", "lb-en"]):
                if step > from_step:
                    log.write_routing(line)
        log.close()
    lines = (tmp_path / "routing.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 1, 2, 2]


def test_time_spent_waiting_for_batches_is_reported():
    def slow() -> Iterator[Any]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    sums, batches = StepSums(), slow()
    assert [sums.wait_for(batches) for _ in range(2)] == [0, 1]
    sums.add(metrics(1))
    line = sums.drain(1)
    assert 0.04 <= line["input_seconds"] <= line["seconds"]
    sums.add(metrics(2))
    assert sums.drain(2)["input_seconds"] == 0
