"""Times of a profile are told apart by kind of work, on every platform's planes."""
# SPDX-License-Identifier: Apache-2.0

from types import SimpleNamespace

import pytest

from gshard_mt.train.breakdown import (
    KINDS,
    STEP,
    Event,
    break_down,
    first_step,
    read_events,
    read_program,
)

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused (p: f32[8,8]) -> f32[8,8] {
  %p = f32[8,8]{1,0} parameter(0)
  ROOT %c = f32[8,8]{1,0} convolution(%p, %p), metadata={op_name="jit(step)/RM,MH->RH/dot_general"}
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%body (s: (f32[8,8])) -> (f32[8,8]) {
  %s = (f32[8,8]{1,0}) parameter(0)
  %dot.1 = f32[8,8]{1,0} dot(%s, %s), metadata={op_name="jit(step)/jvp()/while/attention/dot"}
  %gemm = (f32[8,8]{1,0}, s8[9]{0}) custom-call(%s), custom_call_target="__cublas$gemm", \
metadata={op_name="jit(step)/while/body/dispatch/experts/dot_general"}
  %kernel = f32[8,8]{1,0} custom-call(%s), custom_call_target="tpu_custom_call", \
metadata={op_name="jit(step)/while/body/dispatch/experts/pallas_call"}
  %sort = f32[8,8]{1,0} sort(%s), metadata={op_name="jit(step)/transpose(jvp(dispatch))/sort"}
  ROOT %t = (f32[8,8]{1,0}) tuple(%sort)
}

ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  %fusion.1 = f32[8,8]{1,0} fusion(%x), kind=kOutput, calls=%fused
  %while.1 = (f32[8,8]{1,0}) while(%x), condition=%cond, body=%body
  %all-to-all-start = ((f32[8,8]), f32[8,8], u32[]) all-to-all-start(%x)
  %all-to-all-done = f32[8,8]{1,0} all-to-all-done(%all-to-all-start)
  %copy-start = (f32[8,8], f32[8,8], u32[]) copy-start(%x)
  %relu = f32[8,8]{1,0} maximum(%x, %x), metadata={op_name="jit(step)/dispatch/experts/max"}
  %all-reduce = f32[8,8]{1,0} all-reduce(%x), to_apply=%sum, metadata={op_name="optimizer/psum"}
  ROOT %update = f32[8,8]{1,0} add(%x, %x), metadata={op_name="jit(step)/optimizer/add"}
}
"""


def test_instructions_have_kinds_by_what_they_are_and_by_their_innermost_scope():
    program = read_program(PROGRAM)
    assert program.module == "jit_step"
    expected = {
        "fusion.1": "matmul",
        "dot.1": "attention",
        "gemm": "matmul",
        "kernel": "matmul",
        "sort": "dispatch",
        "all-to-all-start": "exchange",
        "all-to-all-done": "exchange",
        "all-reduce": "exchange",
        "relu": "other",
        "copy-start": "other",
        "update": "optimizer",
    }
    assert {name: program.kinds[name] for name in expected} == expected
    assert "while.1" not in program.kinds


def made(planes: dict) -> SimpleNamespace:
    """A profile of planes of lines of events: (name, start, length) and any stats."""

    def event(name, start, length, **stats):
        return SimpleNamespace(name=name, start_ns=start, duration_ns=length, stats=stats.items())

    return SimpleNamespace(
        planes=[
            SimpleNamespace(
                name=plane,
                lines=[
                    SimpleNamespace(name=line, events=[event(*e[:3], **e[3]) for e in events])
                    for line, events in lines.items()
                ],
            )
            for plane, lines in planes.items()
        ]
    )


def op(name: str, **stats) -> dict:
    return {"hlo_op": name, "hlo_module": "jit_step", **stats}


HOST = {"/host:CPU": {"python": [(STEP, 200, 90, {}), (STEP, 100, 90, {}), ("other", 0, 9, {})]}}
PROFILES = {
    "GPU": {
        "/device:GPU:0": {
            "Stream #1(Compute)": [
                ("sm90_gemm", 100, 30, op("fusion.1")),
                ("sort_kernel", 130, 10, op("sort")),
                ("add", 180, 20, {"hlo_op": "add", "hlo_module": "jit_other"}),
            ],
            "Stream #2": [("ncclDevKernel", 120, 40, op("all-to-all-start"))],
            "Stream #3(MemcpyH2D)": [("MemcpyH2D", 100, 100, {})],
        }
    },
    "TPU": {
        "/device:TPU:0": {
            "Steps": [("0", 100, 100, {})],
            "XLA Modules": [("jit_step(1)", 100, 100, {})],
            "XLA Ops": [
                ("%while.1 = (f32[8,8]) while(%x)", 100, 40, {}),
                ("%fusion.1 = f32[8,8] fusion(%x), calls=%fused", 100, 30, {}),
                ("%sort = f32[8,8] sort(%s)", 130, 10, {}),
                ("%all-to-all-done = f32[8,8] all-to-all-done()", 140, 20, {}),
                ("%relu = f32[8,8] maximum(%x, %x)", 180, 20, {}),
            ],
            "Async XLA Ops": [
                ("%all-to-all-start = f32[8,8] all-to-all-start()", 120, 40, {}),
                ("%copy-start = f32[8,8] copy-start(%x)", 150, 30, {}),
            ],
        }
    },
    "CPU": {
        "/host:CPU": HOST["/host:CPU"]
        | {
            "tf_XLAPjRtCpuClient/1": [
                ("while.1", 100, 40, op("while.1", device_ordinal="0")),
                ("fusion.1", 100, 30, op("fusion.1", device_ordinal="0")),
                ("sort", 130, 10, op("sort", device_ordinal="0")),
                ("end: sort", 140, 1, {}),
                ("all-to-all-done", 140, 20, op("all-to-all-done", device_ordinal="0")),
                ("relu", 180, 20, op("relu", device_ordinal="0")),
            ]
        }
    },
}


@pytest.mark.parametrize("platform", PROFILES)
def test_the_planes_of_every_platform_are_read(platform):
    profile = made(HOST | PROFILES[platform])
    assert first_step(profile) == 100
    found = break_down(read_events(profile, read_program(PROGRAM)), first_step(profile))
    expected = {"matmul": 30, "dispatch": 10, "exchange": 20, "other": 20, "idle": 20}
    assert found == dict.fromkeys(KINDS, 0.0) | expected


def test_times_are_the_mean_of_devices_until_the_last_of_them_ends():
    events = [Event("one", 0, 60, "matmul"), Event("other", 40, 100, "optimizer")]
    found = break_down(events, start=0)
    expected = {"matmul": 30, "optimizer": 30, "idle": 40}
    assert found == dict.fromkeys(KINDS, 0.0) | expected


def test_an_instruction_inside_another_has_its_own_time():
    events = [
        Event("one", 0, 100, "other"),
        Event("one", 20, 50, "matmul"),
        Event("one", 30, 30, "attention"),  # takes no time
        Event("one", 90, 120, "exchange"),
    ]
    found = break_down(events, start=0)
    assert found == dict.fromkeys(KINDS, 0.0) | {"other": 70, "matmul": 30, "exchange": 20}
