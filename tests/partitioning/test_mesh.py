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
    ("data", "expert"), [(-1, -1), (0, 8), (1, -2), (3, -1), (-1, 16), (2, 2), (4, 4)]
)
def test_a_grid_that_does_not_use_all_devices_is_refused_with_its_sizes(data, expert):
    found = f"^config.mesh: found mesh.data={data} x mesh.expert={expert} x mesh.model=1, accepted"
    with pytest.raises(ConfigError, match=f"{found}: sizes whose .* number of devices, 8"):
        solve_shape(data, expert, 1, 8)


def test_the_mesh_has_the_asked_axes_and_is_auto():
    mesh = build_mesh(2, -1)
    assert dict(mesh.shape) == {"data": 2, "expert": 4, "model": 1}
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_stages_come_first_and_only_where_they_are_asked_for():
    assert list(build_mesh(-1, 1, 2, 2).shape.items()) == [
        *(("stage", 2), ("data", 2), ("expert", 1), ("model", 2)),
    ]
    with pytest.raises(ConfigError, match="^config.mesh: found mesh.stage=3 x"):
        build_mesh(-1, 1, 1, 3)
    with pytest.raises(ConfigError, match="^config.mesh: found mesh.stage=2 x mesh.data=8 x"):
        build_mesh(8, 1, 1, 2)


def test_a_slice_is_a_mesh_of_its_own_and_only_where_there_are_several():
    mesh = build_mesh(-1, 2, stage=2, dcn_data=2)
    assert list(mesh.shape.items()) == [
        *(("stage", 2), ("dcn_data", 2), ("data", 1), ("expert", 2), ("model", 1)),
    ]
    devices = jax.devices()
    for index, own in enumerate((devices[:4], devices[4:])):
        alone = build_mesh(1, 2, stage=2, devices=own)
        assert np.array_equal(mesh.devices[:, index], alone.devices)
    with pytest.raises(ConfigError, match="^config.mesh: found mesh.dcn_data=3 x mesh.data=1 x"):
        build_mesh(1, -1, dcn_data=3)


@pytest.mark.parametrize(("dcn_data", "slices"), [(2, [0] * 8), (1, [0] * 4 + [1] * 4)])
def test_slices_that_are_not_those_of_the_devices_are_refused(dcn_data, slices):
    devices = [types.SimpleNamespace(slice_index=index) for index in slices]
    message = f"^config.mesh.dcn_data: found {dcn_data}, accepted: {len(set(slices))}, the number"
    with pytest.raises(ConfigError, match=message):
        build_mesh(1, -1, dcn_data=dcn_data, devices=devices)


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
    with pytest.raises(ConfigError, match="^config.mesh.num_cpu_devices: found 4, accepted: 8"):
        simulate_cpu_devices(4)


@pytest.mark.parametrize(
    ("error", "reason"), [(AssertionError(), ""), (RuntimeError("no\nsuch"), r" \(no such\)")]
)
def test_devices_that_are_asked_for_and_absent_are_one_line(monkeypatch, error, reason):
    def devices():
        raise error

    monkeypatch.setattr("jax.devices", devices)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(type(error)):
        build_mesh(1, -1)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    expected = (
        f"JAX_PLATFORMS: found cuda, of which JAX finds no device here{reason}; accepted: cpu"
    )
    with pytest.raises(ConfigError, match=expected):
        build_mesh(1, -1)
