"""MoE(2048E, 12L) of the GShard paper: 200 billion parameters on 2,048 cores of TPU v3.

gshard-plan --config configs/moe_2048e_12l.py --topology v3:32x32

The paper's figures (table 3): 2.15 steps a second with 4 million tokens each, a trillion tokens in
1.4 days (7.5 core years), BLEU 41.3 into English on average, 10.5 more than bilingual models.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    return m4_config(num_experts=2048, num_layers=12, batch_tokens=4 << 20)
