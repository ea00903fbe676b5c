"""The steps to profile: which of them a resumed run still traces, and the table of their times."""
# SPDX-License-Identifier: Apache-2.0

import json

import jax
import pytest

from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.programs import compile_clock
from gshard_mt.train.breakdown import KINDS
from gshard_mt.train.profile import summarize, trace_steps
from tests.train.test_step import Trainer, copy_batch, make_config


class Step:
    """Stands for a compiled step and notes the numbers of its calls."""

    def __init__(self, seen: list):
        self.seen = seen

    def __call__(self, number):
        self.seen.append(number)
        return ()


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (0, [1, 2, "begin", 3, 4, 5, "end", "table of 3", 6, 7]),
        (3, ["begin", 4, 5, "end", "table of 2", 6, 7]),
        (5, [6, 7]),
    ],
)
def test_the_trace_covers_the_steps_that_are_left_of_those_asked_for(
    monkeypatch, tmp_path, start, expected
):
    seen = []

    def note_table(folder, program, steps):
        seen.append(f"table of {len(steps)}")
        return []

    monkeypatch.setattr("jax.profiler.start_trace", lambda folder, **_: seen.append("begin"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: seen.append("end"))
    monkeypatch.setattr("gshard_mt.train.profile.program_text", lambda *_: "")
    monkeypatch.setattr("gshard_mt.train.profile.summarize", note_table)
    step = trace_steps(Step(seen), tmp_path, range(3, 6), start)
    for number in range(start + 1, 8):
        step(number)
    assert seen == expected


def test_the_table_has_the_time_of_every_kind_of_work(tmp_path, capsys):
    config = make_config()
    config.model.dropout_rate = config.model.ffn_dropout_rate = 0.0
    trainer = Trainer(build_mesh(1, 8), config)
    step = trace_steps(trainer.train_step, tmp_path, range(2, 4), 0)
    state = trainer.initial_state()
    with jax.set_mesh(trainer.mesh):
        batch = jax.device_put(copy_batch(0), sharding(trainer.mesh, "BL", 2))
        state, _ = step(state, batch)
        clock = compile_clock()
        compiled = clock.seconds
        for _ in range(2):
            state, _ = step(state, batch)
    assert clock.seconds == compiled  # the program's text costs no compilation
    (path,) = tmp_path.rglob("step_time.json")
    assert list(path.parent.glob("*.xplane.pb"))
    found = json.loads(path.read_text())
    assert found["steps"] == [2, 3] and tuple(found["kinds"]) == KINDS
    assert sum(each["share"] for each in found["kinds"].values()) == pytest.approx(1.0)
    assert sum(each["ms"] for each in found["kinds"].values()) == pytest.approx(found["step_ms"])
    assert all(each["ms"] > 0 for each in found["kinds"].values()), found
    _, table = capsys.readouterr().out.split("profile     steps 2 to 3, ")
    first, *lines = table.splitlines()
    assert str(path) in first
    assert [line.split()[1] for line in lines] == list(KINDS)  # after the time of day


def test_a_trace_without_operations_is_said_to_have_none(tmp_path):
    jax.profiler.start_trace(tmp_path)
    jax.profiler.stop_trace()
    (line,) = summarize(tmp_path, "HloModule jit_step", range(3, 5))
    assert line.startswith("profile     steps 3 to 4: no operation of a device is in the trace (")
    assert not list(tmp_path.rglob("step_time.json"))
