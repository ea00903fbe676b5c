"""Damaged checkpoints are restored exactly or passed over with a clear line, never otherwise."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import random
import shutil

import jax
import numpy as np
import pytest

from gshard_mt.errors import CheckpointError, DamagedError
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.checkpoints import Checkpoints
from tests.making.runs import assert_same_bits
from tests.run.test_checkpoints import fill, shapes_on

STEPS = (5, 10)
STATE = {"batches": {"chunk": 3, "row": 17}, "watch": [128.0, 3.25, 0.5]}


@pytest.fixture(scope="module")
def like():
    return shapes_on(build_mesh(1, 1, devices=jax.devices()[:1]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory, like):
    """A run directory with two checkpoints, and what is in them."""
    workdir, states = tmp_path_factory.mktemp("saved"), {}
    writer = Checkpoints(workdir, max_checkpoints=2)
    for step in STEPS:
        states[step] = fill(like, seed=step)
        state = {**STATE, "step": step}
        writer.save(step, states[step].params, states[step].opt_state, state, {"nll": 1.0 * step})
    writer.close()
    return workdir, {step: arrays(state) for step, state in states.items()}


def arrays(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree.flatten_with_path((tree.params, tree.opt_state))[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def damage(folder: pathlib.Path, rng: random.Random) -> str:
    """Truncates, empties, deletes or flips a bit of a file, or deletes a folder."""
    paths = sorted(folder.rglob("*"))
    path = rng.choice([path for path in paths if path.is_file()])
    kind = rng.choice(["truncate", "flip", "flip", "flip", "delete", "empty", "folder"])
    if kind == "folder":
        path = rng.choice([path for path in paths if path.is_dir()])
        shutil.rmtree(path)
    elif kind == "delete":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        if kind == "flip" and content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[0 if kind == "empty" else rng.randrange(max(len(content), 1)) :]
        path.write_bytes(content)
    return f"{kind} {path.relative_to(folder)}"


def test_a_damaged_checkpoint_is_restored_exactly_or_passed_over(
    saved, like, tmp_path, soak, capsys
):
    workdir, wanted = saved
    rng, counts = random.Random(3), {"restored exactly": 0, "passed over": 0}
    for number in range(200 if soak else 6):
        copy = tmp_path / str(number)
        shutil.copytree(workdir, copy)
        what = damage(copy / "checkpoints" / "10", rng)
        told: list[str] = []
        checkpoints = Checkpoints(copy, max_checkpoints=2)
        found = checkpoints.restore_newest(like.params, like.opt_state, told.append)
        assert found, what
        step, params, opt_state, state = found
        state_of = like._replace(params=params, opt_state=opt_state)
        assert_same_bits(arrays(state_of), wanted[step])
        assert state == {**STATE, "step": step}, what
        if step == 10:
            assert not told, what
            counts["restored exactly"] += 1
        else:
            if (copy / "damaged").exists():  # else the folder itself was gone
                assert "10" in told[0] and "\n" not in told[0], what
            assert checkpoints.steps() == [5], what
            checkpoints.save(10, params, opt_state, state, {})  # there is room for it again
            counts["passed over"] += 1
        checkpoints.close()
        shutil.rmtree(copy)
    with capsys.disabled():
        print(f"\ncorruptions: {counts}")
    assert counts["passed over"]


def test_what_is_damaged_is_kept(saved, like, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(saved[0], copy)
    files = (copy / "checkpoints" / "10" / "params" / "ocdbt.process_0" / "d").iterdir()
    half = max(files, key=lambda path: path.stat().st_size)
    half.write_bytes(half.read_bytes()[:100])
    told: list[str] = []
    checkpoints = Checkpoints(copy, max_checkpoints=2)
    found = checkpoints.restore_newest(like.params, like.opt_state, told.append)
    checkpoints.close()
    assert found and found[0] == 5
    assert told[0].startswith(f"damaged     {copy}/checkpoints/10: ")
    assert told[1] == f"moved       checkpoint 10 to {copy}/damaged/10"
    kept = copy / "damaged" / "10" / half.relative_to(copy / "checkpoints" / "10")
    assert len(kept.read_bytes()) == 100


def test_readers_pass_over_the_newest_but_not_over_the_one_that_was_asked_for(
    saved, like, tmp_path, capsys
):
    copy = tmp_path / "run"
    shutil.copytree(saved[0], copy)
    (copy / "checkpoints" / "10" / "state" / "metadata").write_text("{")
    reader = Checkpoints(copy)
    step, _ = reader.restore_params("latest", like.params)
    assert step == 5
    assert "taking checkpoint 5" in capsys.readouterr().err
    with pytest.raises(DamagedError, match=r"checkpoints/10"):
        reader.restore_params("10", like.params)
    assert reader.choose("best") == 5
    assert (copy / "checkpoints" / "10").is_dir()  # a reader moves nothing
    reader.close()


def test_a_run_of_damaged_checkpoints_alone_does_not_begin_anew(saved, like, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(saved[0], copy)
    for step in STEPS:
        (copy / "checkpoints" / str(step) / "state" / "metadata").unlink()
    checkpoints = Checkpoints(copy, max_checkpoints=2)
    with pytest.raises(CheckpointError, match=r"all checkpoints are damaged \(5, 10\)"):
        checkpoints.restore_newest(like.params, like.opt_state, lambda line: None)
    checkpoints.close()
    assert {path.name for path in (copy / "checkpoints").iterdir()} >= {"5", "10"}
