"""A plan agrees with the compiled program, and its estimates come near to it."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import re

import pytest

from gshard_mt.config.records import Config, DataConfig, ModelConfig, MoeConfig, TrainConfig
from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.hardware import find_chip
from gshard_mt.plan.overlap import Overlap
from gshard_mt.plan.plan import StepPlan, make_plan
from gshard_mt.plan.table import as_json, as_lines
from gshard_mt.plan.topology import GPUS, parse_topology
from tests.cli.calling import call, refused


def small(num_experts: int = 8) -> Config:
    config = Config(
        data=DataConfig(
            source_vocab_size=96, target_vocab_size=64, source_length=32, target_length=16
        ),
        model=ModelConfig(
            num_layers=8,
            model_dim=32,
            ffn_dim=64,
            num_heads=2,
            head_dim=16,
            moe=MoeConfig(num_experts=num_experts, group_size=32),
            dropout_rate=0.0,  # whose random bits take long to compile
        ),
        train=TrainConfig(batch_rows=32, optimizer="adamw"),
    )
    return config


@pytest.fixture(scope="module")
def plan() -> StepPlan:
    return make_plan(small(), parse_topology("cpu:8"), is_compiled=True)


def test_products_are_counted_as_the_model_asks_for_them(plan):
    # With C = 2 S / E slots there are as many rows as tokens have choices; the counters add a bit.
    assert plan.model_flops < plan.flops < 1.001 * plan.model_flops


def test_a_recomputed_layer_costs_up_to_a_third_more(plan):
    config = small()
    config.model.remat = "full"
    again = make_plan(config, parse_topology("cpu:8"), is_compiled=False)
    # Not the softmax, nor the last product of a block, whose result no gradient needs.
    assert 1.25 < again.flops / plan.flops < 4 / 3
    assert again.model_flops == plan.model_flops


@pytest.mark.parametrize("num_decoder_layers", [0, 2])
def test_dense_products_are_counted_too(num_decoder_layers):
    config = small(num_experts=0)
    config.model.num_decoder_layers = num_decoder_layers
    traced = make_plan(config, parse_topology("cpu:8"), is_compiled=False)
    assert traced.flops == pytest.approx(traced.model_flops, rel=1e-12)


def test_bytes_are_those_of_each_device(plan):
    # A device has one of eight experts of every MoE layer, and all of the rest.
    experts = 4 * (2 * 8 * 32 * 64) * 4  # layers, matrices, bytes
    assert plan.parameter_bytes == 4 * plan.parameters - experts * 7 / 8
    assert plan.optimizer_bytes == pytest.approx(2 * plan.parameter_bytes, rel=1e-3)  # and counts
    assert plan.temporary_bytes > plan.parameter_bytes
    assert plan.memory_bytes is None and plan.missing_bytes == 0


def test_collectives_are_counted_as_often_as_layers_have_them(plan):
    # Four MoE layers: two all-to-alls forward, two back, of [E, G/8, C, M] each.
    slots = {"source": 32 * 32 // 32 // 8 * 8 * 8, "target": 32 * 16 // 32 // 8 * 8 * 8}
    size = sum(2 * 4 * count * 32 * 4 for count in slots.values())
    assert plan.collective_bytes["all-to-all"] == size
    assert plan.collective_instructions["all-to-all"] == 8  # whatever the depth
    dense = plan.parameter_bytes - 4 * (2 * 32 * 64) * 4  # what no device owns alone
    assert dense <= plan.collective_bytes["all-reduce"] <= 1.1 * dense + 20_000


def test_a_traced_plan_comes_near_the_compiled_one_and_marks_estimates(plan):
    traced = make_plan(small(), parse_topology("cpu:8"), is_compiled=False)
    for name in ("flops", "model_flops", "parameter_bytes", "optimizer_bytes", "parameters"):
        assert getattr(traced, name) == getattr(plan, name), name
    assert traced.collective_bytes["all-to-all"] == plan.collective_bytes["all-to-all"]
    assert traced.temporary_bytes == pytest.approx(plan.temporary_bytes, rel=0.6)
    assert traced.compile_seconds is None and plan.compile_seconds > 0
    assert {"temporary_bytes", "collective_bytes"} <= set(traced.estimated)
    assert not set(plan.estimated) & {"temporary_bytes", "collective_bytes"}
    text = "\n".join(as_lines(traced, small()))
    assert "~" in text and "gshard-mt[tpu]" in text


def test_what_crosses_the_slow_network_is_apart_from_the_rest(plan):
    """Two slices of four devices, each of which has as many rows as one of `plan`."""
    config = small()
    config.mesh.dcn_data = 2
    cpu = parse_topology("cpu:4", num_slices=2)
    two, traced = (make_plan(config, cpu, is_compiled=compiled) for compiled in (True, False))
    assert (two.devices, two.mesh["dcn_data"], two.slices) == (8, 2, 2)
    assert two.collective_bytes["all-to-all"] == plan.collective_bytes["all-to-all"]
    assert two.collective_bytes == pytest.approx(traced.collective_bytes, rel=0.1)
    # A device exchanges its quarter of all gradients, experts' included; sums come on top.
    assert traced.dcn_bytes == {"all-reduce": 4 * plan.parameters / 4}
    assert set(two.dcn_bytes) == {"all-reduce"}
    assert traced.dcn_bytes["all-reduce"] <= two.dcn_bytes["all-reduce"]
    assert two.dcn_bytes["all-reduce"] < 1.05 * traced.dcn_bytes["all-reduce"] + 2_500
    lines = as_lines(two, config)
    start = lines.index("sent by each device to other slices, over the slow network (dcn)")
    assert lines[start + 1] == f"  all-reduce   {two.dcn_bytes['all-reduce'] / 1e6:,.1f} MB"
    assert lines[0].startswith("topology    2 slices of cpu:4: 8 devices, mesh dcn_data=2 x data=1")
    assert plan.dcn_bytes == {}


def test_all_to_alls_during_which_experts_compute_are_told(plan):
    assert plan.overlap is None  # not counted in a program for CPUs
    assert "asynchronous" not in "\n".join(as_lines(plan, small()))
    found = dataclasses.replace(plan, overlap=Overlap(16, 10))
    lines = as_lines(found, small())
    place = next(n for n, line in enumerate(lines) if line.startswith("  all-to-all"))
    assert lines[place + 1] == "    asynchronous 16, during 10 of which experts compute"
    assert as_json(found)["overlap"] == {"pairs": 16, "with_product": 10}


def test_a_step_that_does_not_fit_says_by_how_much_and_what_helps(plan):
    tight = dataclasses.replace(plan, memory_bytes=plan.total_bytes / 2)
    lines = "\n".join(as_lines(tight, small()))
    assert "does not fit" in lines and "too much" in lines and "config.model.remat=full" in lines
    assert as_json(tight)["fits"] is False
    assert as_json(plan)["fits"] is True
    too_large = dataclasses.replace(plan, does_not_fit="Used 17.02G of 15.48G hbm.")
    assert as_json(too_large)["fits"] is False


def test_the_command_fails_for_a_step_that_does_not_fit(plan, monkeypatch, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "from gshard_mt.config import Config\n\ndef get_config():\n    return Config()\n"
    )
    words = ("plan", "--config", config, "--topology", "cpu:8", "--json")
    monkeypatch.setattr("gshard_mt.plan.plan.make_plan", lambda *_: plan)
    done = call(*words)
    assert done.returncode == 0 and json.loads(done.stdout)["fits"]
    tight = dataclasses.replace(plan, memory_bytes=2.0**20)
    monkeypatch.setattr("gshard_mt.plan.plan.make_plan", lambda *_: tight)
    done = call(*words)
    assert not json.loads(done.stdout)["fits"]
    assert "--topology: found cpu:8, whose devices have 0.0 GiB, accepted: " in refused(done)


def test_a_tpu_has_a_roofline():
    found = as_json(make_plan(small(), parse_topology("v3:2x2"), is_compiled=False))
    assert found["devices"] == 8 and found["memory_bytes"] == 16 << 30
    line = found["roofline"]
    moved = sum(line["communication_seconds"].values())
    assert line["step_seconds"] == max(line["compute_seconds"], line["memory_seconds"]) + moved
    assert line["compute_seconds"] == found["flops"] / 61.5e12


def test_gpus_of_several_hosts_have_a_plan_by_a_program_for_cpus(plan):
    config = small()
    config.mesh.dcn_data, config.model.dtype = 2, "bfloat16"
    found = make_plan(config, parse_topology("h100:4", num_slices=2), is_compiled=True)
    assert (found.devices, found.chip, found.memory_bytes) == (8, "NVIDIA H100", 80 << 30)
    # What bfloat16 needs and sends, though the program is for CPUs, which would make it float32.
    assert found.collective_bytes["all-to-all"] == plan.collective_bytes["all-to-all"] / 2
    assert found.temporary_bytes < 0.9 * plan.temporary_bytes
    line = found.roofline
    assert line and line.communication_seconds["all-to-all"] == pytest.approx(
        found.collective_bytes["all-to-all"] / 450e9
    )
    assert line.communication_seconds["dcn"] == sum(found.dcn_bytes.values()) / 50e9
    assert line.compute_seconds == found.flops / 989e12
    lines = as_lines(found, config)
    assert lines[0].startswith("topology    2 hosts of h100:4: 8 devices of NVIDIA H100, mesh")
    assert "sent by each device to other hosts, over the slow network (dcn)" in lines
    assert lines[-1] == "~ marks an estimate from the program for CPU devices"
    text = "\n".join(lines)
    for name in ("temporaries", "total", "all-to-all", "all-reduce"):
        assert re.search(rf"\n  {name} +~\d", text), name
    assert " for 8 CPU devices, since XLA can't compile for an absent GPU\n" in text
    assert "  program " not in text and found.program_bytes == 0


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_has_its_published_peaks(name):
    topology = parse_topology(f"{name}:8", num_slices=4)
    assert topology.platform == "gpu" and topology.num_devices == 32
    assert topology.chip == find_chip(f"NVIDIA {name.upper()}-SXM4-80GB")
    assert topology.chip and topology.chip.dcn_bytes_per_second


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v9:2x2", "found 'v9:2x2', accepted: cpu:8"),
        ("v3", "accepted: cpu:8"),
        ("v3:4", "accepted: cpu:8"),
        ("v4:2x2", "3 sizes for v4, e.g. v4:2x4x8"),
        ("v3:2x2x2", "2 sizes for v3, e.g. v3:2x4"),
        ("v3:0x2", "2 sizes for v3"),
        ("cpu:0", "cpu:1 to cpu:1024"),
        ("h800:8", "h100:8 .a100, h100, h200, b200."),
        ("h100", "h100:8"),
        ("h100:2x8", "h100:8"),
        ("h100:16", "h100:1 to h100:8 in each of config.mesh.dcn_data hosts"),
    ],
)
def test_an_unknown_topology_is_refused(name, said):
    with pytest.raises(ConfigError, match=f"--topology: .*{said}"):
        parse_topology(name)


def test_a_mesh_that_does_not_divide_is_refused():
    config = small()
    config.mesh.data = 3
    with pytest.raises(ConfigError, match="config.mesh: found mesh.data=3 x"):
        make_plan(config, parse_topology("cpu:8"), is_compiled=False)
