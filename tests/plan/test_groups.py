"""Groups of devices are read from every notation in which XLA writes them."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest

from gshard_mt.plan.groups import read_groups


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("replica_groups=[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("replica_groups=[4,2]<=[2,2,2]T(2,1,0)", [[0, 4], [2, 6], [1, 5], [3, 7]]),
        ("replica_groups=mesh['a'=4,'b'=2] {'b'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        (
            "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
            [[0, 1, 2, 3], [4, 5, 6, 7]],
        ),
        ("source_target_pairs={{0,0},{1,2},{2,1}}", [[0, 0], [1, 2], [2, 1]]),
    ],
)
def test_groups_of_eight_devices(text, groups):
    line = f"  %x = f32[2,16]{{1,0}} all-reduce(%y), channel_id=1, {text}, dimensions={{1}}"
    np.testing.assert_array_equal(read_groups(line, 8), groups)


def test_a_line_without_groups_is_refused():
    with pytest.raises(ValueError, match="no groups of devices"):
        read_groups("%x = f32[2] add(%y, %z)", 8)
