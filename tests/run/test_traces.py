"""Traces: read again by whoever needs the same program, and by no one else."""
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run import traces
from gshard_mt.run.traces import Program

MESH = build_mesh(2, 4)
ROWS = sharding(MESH, "BM", 2)
# Integers as keys, as in the parameters of a stack of layers.
PARAMS = {"layers": {0: jax.device_put(jnp.eye(2) - 0.3, sharding(MESH, "", 2))}}

COMMAND = """
import json, pathlib, sys
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 2)
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.programs import keep_programs
from gshard_mt.run.traces import Program

found = {"traced": 0, "/jax/compilation_cache/cache_hits": 0}

def count(name, **_):
    found[name] = found.get(name, 0) + 1

def function(x):
    count("traced")
    return x + 1

jax.monitoring.register_event_listener(count)
keep_programs(pathlib.Path(sys.argv[1]))
mesh = build_mesh(1, 2)
one = jax.device_put(jnp.float32(1.0), sharding(mesh, "", 0))
print(float(Program(function, "next", mesh)(one)))
print(json.dumps([found["traced"], found["/jax/compilation_cache/cache_hits"]]))
"""


class Counted:
    """A function that counts how often it is traced."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, params, x_BM: jax.Array) -> jax.Array:
        self.count += 1
        return jnp.tanh(x_BM @ params["layers"][0])


@pytest.fixture
def folder(tmp_path):
    """The folder of traces, in an empty cache."""
    before = jax.config.jax_compilation_cache_dir  # type: ignore
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    traces._environment.cache_clear()  # an earlier test of this process may have changed a setting
    yield tmp_path / "traced"
    jax.config.update("jax_compilation_cache_dir", before)


def rows(num: int = 8) -> jax.Array:
    return jax.device_put(np.random.default_rng(0).normal(size=(num, 2)).astype("f4"), ROWS)


def program(function, identity: str = "tanh", **options) -> Program:
    return Program(function, identity, MESH, **options)


def is_traced(identity: str = "tanh", num: int = 8) -> bool:
    """Tells whether a new program is traced, which is called as a later start would."""
    counted = Counted()
    found = program(counted, identity)(PARAMS, rows(num))
    assert np.array_equal(found, jnp.tanh(rows(num) @ PARAMS["layers"][0]))
    return counted.count > 0


def test_a_program_is_traced_once_and_the_next_start_reads_it(folder):
    counted = Counted()
    first = program(counted)
    found = first(PARAMS, rows())
    assert np.array_equal(first(PARAMS, rows()), found)
    assert counted.count == 1 and len(list(folder.iterdir())) == 1
    again = program(counted)(PARAMS, rows())
    assert counted.count == 1
    assert np.asarray(again).tobytes() == np.asarray(found).tobytes()
    assert again.sharding == found.sharding


def test_what_determines_a_program_is_what_it_is_found_by(folder, monkeypatch):
    assert is_traced() and not is_traced()
    assert is_traced("another")
    assert is_traced(num=16)
    with jax.default_matmul_precision("highest"):
        traces._environment.cache_clear()
        assert is_traced()
    traces._environment.cache_clear()
    assert not is_traced()
    changed = folder.parent / "package"
    shutil.copytree(traces._PACKAGE / "run", changed)
    monkeypatch.setattr(traces, "_PACKAGE", changed)
    traces._environment.cache_clear()
    assert is_traced() and not is_traced()
    (changed / "traces.py").open("a").write("# a comment\n")
    traces._environment.cache_clear()
    assert is_traced()
    traces._environment.cache_clear()


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped"])
def test_a_damaged_trace_is_made_again(folder, harm):
    assert is_traced()
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    if harm == "flipped":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 if harm == "cut" else 0 :]
    file.write_bytes(content)
    assert is_traced() and not is_traced()


def test_without_a_place_for_it_a_program_is_traced_as_usual(folder):
    folder.touch()  # a file, in which nothing can be written
    assert is_traced() and is_traced()
    folder.unlink()
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert is_traced() and is_traced()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert not folder.exists()


def test_what_cant_be_exported_is_traced_as_usual(folder):
    def call_back(x_BM: jax.Array) -> jax.Array:
        return jax.pure_callback(lambda x: np.asarray(x) + 1, x_BM, x_BM)

    assert np.array_equal(program(call_back)(rows()), rows() + 1)
    assert not folder.exists()


def test_an_error_of_the_function_is_raised_to_each_caller(folder):
    def fail(x_BM: jax.Array) -> jax.Array:
        raise KeyError("a bug")

    failing = program(fail)
    for _ in range(2):
        with pytest.raises(KeyError, match="a bug"):
            failing(rows())


def test_those_used_last_are_kept(folder, monkeypatch):
    monkeypatch.setattr(traces, "_MOST", 2)
    assert is_traced("first") and is_traced("second")
    for age, file in enumerate(sorted(folder.iterdir(), key=os.path.getmtime)):
        os.utime(file, (0, age))
    assert not is_traced("first")
    assert is_traced("third")
    assert len(list(folder.iterdir())) == 2
    assert not is_traced("first") and is_traced("second")


def test_threads_that_need_the_same_program_make_it_once(folder):
    counted = Counted()
    shared, found = program(counted), []
    threads = [
        threading.Thread(target=lambda: found.append(shared(PARAMS, rows()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and counted.count == 1


def test_a_result_has_the_shardings_that_are_asked_for_before_it_is_computed(folder):
    for _ in range(2):  # traced, then read
        each = program(Counted(), out_shardings=ROWS)
        shape = jax.ShapeDtypeStruct((8, 2), np.float32, sharding=ROWS)
        expected = each.result(PARAMS, shape)
        found = each(PARAMS, rows())
        assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
        assert expected.sharding == found.sharding == ROWS


@pytest.fixture
def start(tmp_path):
    """Starts a command for a run; returns how many programs it traced, and how many it read."""

    def call(workdir: pathlib.Path) -> list[int]:
        own = {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
        given = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, workdir],
            env=given | own,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        value, counts = done.stdout.splitlines()
        assert (value, done.stderr) == ("2.0", "")
        return json.loads(counts)

    return call


def test_a_run_that_is_moved_with_its_programs_finds_them(tmp_path, start):
    here = tmp_path / "here" / "run"
    here.mkdir(parents=True)
    num_traced, _ = start(here)
    assert num_traced == 1
    there = (tmp_path / "here").rename(tmp_path / "there") / "run"
    num_traced, num_read = start(there)
    assert num_traced == 0 and num_read >= 1


def test_programs_that_are_written_in_part_are_written_again(tmp_path, start):
    workdir = tmp_path / "run"
    workdir.mkdir()
    start(workdir)
    _, num_read = start(workdir)
    files = list((tmp_path / ".compilation_cache").glob("*-cache"))
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert num_read == len(files) > 0
    assert start(workdir)[1] == 0
    assert start(workdir)[1] == num_read
