"""The table of gates: the function of each strategy in `routing.strategies`."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.routing.gates.expert_choice import expert_choice
from gshard_mt.routing.gates.hashed import hashed
from gshard_mt.routing.gates.hierarchical import hierarchical
from gshard_mt.routing.gates.noisy_top_k import noisy_top_k
from gshard_mt.routing.gates.top2 import top2
from gshard_mt.routing.gates.top_k import top1, top_k
from gshard_mt.routing.routing import Gate

GATES: dict[str, Gate] = {
    "top2": top2,
    "top1": top1,
    "top_k": top_k,
    "noisy_top_k": noisy_top_k,
    "hierarchical": hierarchical,
    "expert_choice": expert_choice,
    "hash": hashed,
}
