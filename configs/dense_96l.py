"""T(96L) of the GShard paper: the dense baseline, 2.3 billion parameters on 2,048 cores of TPU v3.

gshard-plan --config configs/dense_96l.py --topology v3:32x32

The paper's figures: 4 million tokens a step, some 235.5 core years in six weeks for 300,000 steps,
BLEU 36.9 into English on average, 6.1 more than bilingual models. It ran as a pipeline (GPipe)
whose other settings are not told; heads of 64 come nearest to its size. Here eight cores share
every layer (`mesh.stage` would make a pipeline, too).
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    config = m4_config(num_experts=0, num_layers=96, batch_tokens=4 << 20)
    config.model.head_dim = 64
    config.train.num_steps = 300_000
    config.mesh.data, config.mesh.expert, config.mesh.model = -1, 1, 8
    return config
