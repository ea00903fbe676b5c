"""An all-to-all overlaps with the experts if one of their products is between start and done."""
# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import importlib.util
import multiprocessing

import pytest

from gshard_mt.partitioning import libtpu
from gshard_mt.plan.overlap import Overlap, count_overlap
from gshard_mt.plan.plan import make_plan
from gshard_mt.plan.topology import parse_topology
from tests.plan.test_plan import small

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%product (p: bf16[8,8]) -> bf16[8,8] {
  %p = bf16[8,8]{1,0} parameter(0)
  ROOT %c = bf16[8,8]{1,0} convolution(%p, %p), metadata={op_name="jit(step)/SCOPE/dot_general"}
}

%sent (p.1: bf16[8,8]) -> bf16[8,8] {
  %p.1 = bf16[8,8]{1,0} parameter(0)
  ROOT %a = bf16[8,8]{1,0} all-to-all(%p.1), replica_groups={}
}

ENTRY %main (x: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[8,8]{1,0} parameter(0)
  %all-to-all-start.1 = ((bf16[8,8]), bf16[8,8]{1,0:T(8)S(1)}, u32[], u32[]) all-to-all-start(%x)
FIRST
  %done.1 = bf16[8,8]{1,0} all-to-all-done(%all-to-all-start.1), metadata={op_name="x"}
  %async-start = ((bf16[8,8]), bf16[8,8], s32[]) async-start(%done.1), calls=%sent
SECOND
  %done.2 = bf16[8,8]{1,0} async-done(%async-start), calls=%sent
  %copy-start = (bf16[8,8], bf16[8,8], u32[]) copy-start(%done.2)
THIRD
  ROOT %copy-done = bf16[8,8]{1,0} copy-done(%copy-start)
}
"""
FUSION = "  %f = bf16[8,8]{1,0} fusion(%x), kind=kOutput, calls=%product"


@pytest.mark.parametrize(
    ("scope", "place", "found"),
    [
        ("experts/ERM,EMH->ERH", "FIRST", Overlap(2, 1)),
        ("transpose(jvp(experts))", "SECOND", Overlap(2, 1)),
        ("experts", "THIRD", Overlap(2, 0)),
        ("attention", "FIRST", Overlap(2, 0)),
    ],
)
def test_a_product_of_experts_counts_between_start_and_done(scope, place, found):
    text = PROGRAM.replace("SCOPE", scope).replace(place, FUSION)
    assert count_overlap(text) == found


def test_an_all_to_all_of_one_instruction_overlaps_with_nothing():
    text = PROGRAM.replace("all-to-all-start(", "all-to-all(").replace("all-to-all-done(", "copy(")
    assert count_overlap(text.replace("FIRST", FUSION)) == Overlap(1, 0)


def _plan_for_a_tpu() -> Overlap | None:
    libtpu.use_as_compiler()
    config = small()
    config.model.num_layers, config.model.moe.all_to_all_chunks = 4, 2
    return make_plan(config, parse_topology("v5e:2x4"), is_compiled=True).overlap


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra `tpu`")
def test_experts_compute_while_chunks_travel_between_tpus():
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        found = pool.submit(_plan_for_a_tpu).result()
    assert found and found.pairs == 16 and found.with_product >= 8
