"""The steps to profile: what the flag accepts, and which of them a run still traces."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError
from gshard_mt.train.profile import parse_steps, trace_steps


@pytest.mark.parametrize("text", ["10", "10:", "5:4", "0:3", "a:b", "-1:2", "999:1001", "1:2:3"])
def test_a_range_that_is_none_is_one_line(text):
    with pytest.raises(ConfigError) as raised:
        parse_steps(text, Config())
    expected = f"--profile_steps: found {text}, accepted: FIRST:LAST, steps from 1 to 1000"
    assert str(raised.value).startswith(expected) and "\n" not in str(raised.value)


def test_first_and_last_are_counted_in():
    assert list(parse_steps("10:15", Config())) == [10, 11, 12, 13, 14, 15]
    assert list(parse_steps("1000:1000", Config())) == [1000]
    assert list(parse_steps("", Config())) == []


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (0, [1, 2, "begin", 3, 4, 5, "end", 6, 7]),
        (3, ["begin", 4, 5, "end", 6, 7]),
        (5, [6, 7]),
    ],
)
def test_the_trace_is_of_these_steps_and_of_what_is_left_of_them(
    monkeypatch, tmp_path, start, expected
):
    seen = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: seen.append("begin"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: seen.append("end"))
    step = trace_steps(seen.append, tmp_path, range(3, 6), start)
    for number in range(start + 1, 8):
        step(number)
    assert seen == expected
