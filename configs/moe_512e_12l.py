"""MoE(512E, 12L) of the GShard paper: 50 billion parameters on 512 cores of TPU v3.

gshard-plan --config configs/moe_512e_12l.py --topology v3:16x16

The paper's figures (table 3): 3.28 steps a second with 1 million tokens each, a trillion tokens in
3.5 days (4.9 core years), BLEU 40.0 into English on average, 9.2 more than bilingual models.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    return m4_config(num_experts=512, num_layers=12, batch_tokens=1 << 20)
