"""An all-to-all overlaps with the experts if one of their products is between start and done."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.plan.overlap import Overlap, count_overlap

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
