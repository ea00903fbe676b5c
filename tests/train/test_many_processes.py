"""Two processes of two devices train like one of four, and resume its run as it does theirs."""
# SPDX-License-Identifier: Apache-2.0

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.run.directory import read_run
from gshard_mt.train.initialization import find_origin, initial_params, plan_mapping
from tests.cli.calling import refused
from tests.making.runs import Runs, assert_same, finish, free_port


@pytest.fixture(scope="module")
def home(config, prepared, tmp_path_factory) -> Runs:
    lengths = {"num_steps": 8, "eval_every": 4, "save_every": 2, "max_checkpoints": 9}
    folder = tmp_path_factory.mktemp("home")
    return Runs(folder, config, prepared, num_experts=8, optimizer="adamw", **lengths)


@pytest.fixture(scope="module")
def of_one(home) -> str:
    """What one process of four devices prints, which trains to the end."""
    (printed,) = finish([home.start("one", 4, "--profile_steps=3:4")])
    return printed


@pytest.fixture(scope="module")
def of_two(home, of_one) -> list[str]:
    """What each of two processes of two devices prints, which take over from one at step 2."""
    run = home.folder / "turns"
    shutil.copytree(home.folder / "one", run)
    for step in (4, 6, 8):
        shutil.rmtree(run / "checkpoints" / str(step))
    return finish(home.start_two("turns", "--config.train.num_steps=6", devices=2))


def test_two_processes_train_like_one(home, of_two):
    found = home.lines("turns")
    assert [line["step"] for line in found if line["split"] == "train"] == list(range(1, 7))
    # The last evaluation is that of a run that ends here.
    found = [line for line in found if (line["step"], line["split"]) != (6, "dev")]
    assert_same(found, [line for line in home.lines("one") if line["step"] <= 6])


def test_only_the_first_process_prints(of_two, of_one):
    first, second = of_two
    assert second == ""
    spoken = first.splitlines()
    (line,) = (line for line in spoken if line.startswith("processes"))
    assert line.split() == ["processes", "2,", "each", "with", "2", "devices"]
    spoken.remove(line)
    spoken.remove("resuming    from step 2")
    assert spoken.pop().startswith("step 6: dev nll")  # at the end
    is_profile = re.compile(r"profile |  \w+ +[\d.]+ ms +\d+%$")  # of steps that one process took
    assert spoken == [line for line in of_one.splitlines()[:-1] if not is_profile.match(line)]


def test_only_the_first_process_writes(home, of_two):
    records = list((home.folder / "turns" / "tensorboard").iterdir())
    assert len(records) == 2  # one per start
    assert all(record.stat().st_size > 1000 for record in records)
    routing = (home.folder / "turns" / "routing.jsonl").read_text(encoding="utf-8").splitlines()
    layers = [[json.loads(line)[key] for key in ("step", "stack", "layer")] for line in routing]
    assert layers == [[step, stack, 0] for step in (4, 6) for stack in ("decoder", "encoder")]


def test_a_checkpoint_of_two_processes_is_read_whole_on_any_mesh_and_begins_another_run(
    home, of_two
):
    run, tokenizer = read_run(home.folder / "turns"), load_tokenizer(home.folder / "turns")
    vocab_sizes = tokenizer.vocab_sizes
    checkpoints, read = Checkpoints(home.folder / "turns"), []
    for size in (8, 1):
        mesh = build_mesh(1, size, devices=jax.devices()[:size])
        like = abstract_model(run.config.model, vocab_sizes, mesh).params
        params = checkpoints.restore_params("6", like)[1]
        assert all(x.sharding.num_devices == size for x in jax.tree.leaves(params))
        read.append(jax.tree.map(np.asarray, params))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, *read)
    assert all(np.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(read[0]))
    origin = find_origin(f"{home.folder / 'turns'}@6", None, home.folder / "none")
    assert origin
    run.config.mesh.shard_parameters = True
    mesh = build_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        blueprint = abstract_model(run.config.model, vocab_sizes, mesh, shard_parameters=True)
        fresh = jax.tree.map(lambda x: jnp.zeros(x.shape, device=x.sharding), blueprint.params)
        mapping = plan_mapping(origin, run.config, blueprint, tokenizer)
        jax.tree.map(
            np.testing.assert_array_equal, initial_params(mapping, blueprint, fresh), read[0]
        )


def test_two_processes_one_and_two_resume_each_other_without_a_trace(home, of_two, monkeypatch):
    """One took the steps to 2, two those to 6, and one takes the rest."""
    run = home.folder / "resumed"
    shutil.copytree(home.folder / "turns", run)
    with monkeypatch.context() as patch:
        patch.setenv("JAX_DEBUG_LOG_MODULES", "jax._src.compiler")
        process = home.start("resumed", 4)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    found = re.findall(r"compilation cache (hit|miss) for 'jit_step'", errors, re.IGNORECASE)
    assert set(found) == {"hit"}  # the second start of a run compiles no step
    lines = home.lines("resumed")
    expected = home.lines("one")
    assert_same([line for line in lines if (line["step"], line["split"]) != (6, "dev")], expected)
    states = [
        json.loads((folder / "checkpoints" / "8" / "state" / "metadata").read_text())
        for folder in (run, home.folder / "one")
    ]
    positions = [state["record"]["state"]["batches"] for state in states]
    assert positions[0] == positions[1]


def test_the_profiler_writes_a_trace_of_the_steps(home, of_one):
    (trace,) = (home.folder / "one" / "profile").rglob("*.xplane.pb")
    assert b"PjitFunction(step)" in trace.read_bytes()


def test_processes_that_disagree_print_one_line_each_and_write_nothing(home):
    address = f"--coordinator_address=localhost:{free_port()}"
    flags = (address, "--num_processes=2")
    rates = ("--config.model.dropout_rate=0.2", "--config.model.dropout_rate=0.3")
    processes = [home.start("odd", 2, *flags, f"--process_id={id}", rates[id]) for id in (0, 1)]
    for process in processes:
        printed, errors = process.communicate(timeout=300)
        expected = "error: --config: process 1 of 2 differs from process 0; "
        assert process.returncode == 2 and errors.startswith(expected), errors
        assert errors.count("\n") == 1 and len(printed.splitlines()) <= 1
    assert not (home.folder / "odd").exists()


def test_a_flag_that_cannot_work_is_one_line(home):
    assert "--profile_steps" in refused(home.call("odd", 4, "--profile_steps=1:9"))
    assert not (home.folder / "odd").exists()
