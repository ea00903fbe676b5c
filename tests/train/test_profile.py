"""The steps to profile: which of them a resumed run still traces."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.train.profile import trace_steps


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (0, [1, 2, "begin", 3, 4, 5, "end", 6, 7]),
        (3, ["begin", 4, 5, "end", 6, 7]),
        (5, [6, 7]),
    ],
)
def test_the_trace_covers_the_steps_that_are_left_of_those_asked_for(
    monkeypatch, tmp_path, start, expected
):
    seen = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: seen.append("begin"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: seen.append("end"))
    step = trace_steps(seen.append, tmp_path, range(3, 6), start)
    for number in range(start + 1, 8):
        step(number)
    assert seen == expected
