"""The device grid is solved and refused before a device is touched."""
# SPDX-License-Identifier: Apache-2.0

import types
from typing import NamedTuple

import jax
import numpy as np
import pytest

from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.mesh import (
    build_mesh,
    peak_flops,
    simulate_cpu_devices,
    solve_shape,
)


@pytest.mark.parametrize(
    ("data", "expert", "expected"),
    [(1, -1, (1, 8)), (-1, 1, (8, 1)), (2, -1, (2, 4)), (-1, 4, (2, 4)), (4, 2, (4, 2))],
)
def test_minus_1_takes_what_is_left(data, expert, expected):
    assert tuple(solve_shape(data, expert, 1, 8).values()) == (*expected, 1)


@pytest.mark.parametrize(
    ("data", "expert", "message"),
    [
        (-1, -1, "mesh.data = -1, mesh.expert = -1: only one"),
        (0, 8, "mesh.data = 0: must be 1 or more"),
        (1, -2, "mesh.expert = -2: must be 1 or more"),
        (3, -1, "mesh.data = 3: does not divide the 8 available devices"),
        (-1, 16, "mesh.expert = 16: does not divide the 8 available devices"),
        (2, 2, "mesh.data = 2, mesh.expert = 2, mesh.model = 1: 4 devices requested"),
        (4, 4, "mesh.data = 4, mesh.expert = 4, mesh.model = 1: 16 devices requested"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused_with_key_value_and_devices(data, expert, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        solve_shape(data, expert, 1, 8)


def test_the_mesh_has_the_asked_axes_and_is_auto():
    mesh = build_mesh(2, -1)
    assert dict(mesh.shape) == {"data": 2, "expert": 4, "model": 1}
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_stages_come_first_and_only_where_they_are_asked_for():
    assert list(build_mesh(-1, 1, 2, 2).shape.items()) == [
        *(("stage", 2), ("data", 2), ("expert", 1), ("model", 2)),
    ]
    with pytest.raises(ConfigError, match="^mesh.stage = 3: does not divide the 8 available"):
        build_mesh(-1, 1, 1, 3)
    with pytest.raises(ConfigError, match="^mesh.stage = 2, mesh.data = 8, .* 16 devices requ"):
        build_mesh(8, 1, 1, 2)


def test_a_mesh_of_one_device_is_a_mesh():
    assert build_mesh(1, 1, devices=jax.devices()[:1]).size == 1


class _Devices(NamedTuple):
    """As much of a mesh as its peak depends on."""

    devices: np.ndarray
    size: int


@pytest.mark.parametrize(
    ("kind", "peak"), [("TPU v3", 8 * 61.5e12), ("NVIDIA H200", 8 * 989e12), ("cpu", 0.0)]
)
def test_a_mesh_can_do_what_its_devices_can(kind, peak):
    device = types.SimpleNamespace(device_kind=kind)
    assert peak_flops(_Devices(np.array([device] * 8), 8)) == peak  # type: ignore[arg-type]


def test_simulated_devices_can_be_asked_again_but_not_changed():
    jax.devices()
    simulate_cpu_devices(0)
    simulate_cpu_devices(8)
    with pytest.raises(ConfigError, match="^mesh.num_cpu_devices = 4: JAX already runs with 8"):
        simulate_cpu_devices(4)
    with pytest.raises(ConfigError, match="^mesh.num_cpu_devices = -1: must be 0 or more"):
        simulate_cpu_devices(-1)
