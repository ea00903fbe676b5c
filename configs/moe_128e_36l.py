"""MoE(128E, 36L) of the GShard paper: 37 billion parameters on 128 cores of TPU v3.

gshard-plan --config configs/moe_128e_36l.py --topology v3:8x8

The paper's figures (table 3): 0.67 steps a second with 1 million tokens each, a trillion tokens in
17.3 days (6.1 core years), BLEU 39.0 into English on average, 8.2 more than bilingual models.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    return m4_config(num_experts=128, num_layers=36, batch_tokens=1 << 20)
