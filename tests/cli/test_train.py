"""gshard-train's own flags."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError
from tests.cli.calling import import_command

parse_steps = import_command("train").parse_steps


@pytest.mark.parametrize("text", ["10", "10:", "5:4", "0:3", "a:b", "-1:2", "999:1001", "1:2:3"])
def test_a_bad_range_of_steps_to_profile_is_one_line(text):
    with pytest.raises(ConfigError) as raised:
        parse_steps(text, Config())
    expected = f"--profile_steps: found {text}, accepted: FIRST:LAST, steps from 1 to 1000"
    assert str(raised.value).startswith(expected) and "\n" not in str(raised.value)


def test_first_and_last_step_to_profile_are_included():
    assert list(parse_steps("10:15", Config())) == [10, 11, 12, 13, 14, 15]
    assert list(parse_steps("1000:1000", Config())) == [1000]
    assert list(parse_steps("", Config())) == []
