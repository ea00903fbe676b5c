"""MoE(2048E, 36L) of the GShard paper: 600 billion parameters on 2,048 cores of TPU v3.

gshard-plan --config configs/moe_2048e_36l.py --topology v3:32x32

The paper's figures (table 3): 0.72 steps a second with 4 million tokens each, a trillion tokens in
4.0 days (22.4 core years), BLEU 44.3 into English on average, 13.5 more than bilingual models.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    return m4_config(num_experts=2048, num_layers=36, batch_tokens=4 << 20)
