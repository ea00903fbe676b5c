"""MoE(128E, 12L) of the GShard paper: 12.5 billion parameters on 128 cores of TPU v3.

gshard-plan --config configs/moe_128e_12l.py --topology v3:8x8

The paper's figures (table 3): 2.16 steps a second with 1 million tokens each, a trillion tokens in
5.4 days (1.9 core years), BLEU 36.7 into English on average, 5.9 more than bilingual models.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    return m4_config(num_experts=128, num_layers=12, batch_tokens=1 << 20)
