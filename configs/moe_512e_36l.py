"""MoE(512E, 36L) of the GShard paper: 150 billion parameters on 512 cores of TPU v3.

gshard-plan --config configs/moe_512e_36l.py --topology v3:16x16

The paper's figures (table 3): 1.05 steps a second with 1 million tokens each, a trillion tokens in
11.0 days (15.5 core years), BLEU 43.7 into English on average, 12.9 more than bilingual models.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    return m4_config(num_experts=512, num_layers=36, batch_tokens=1 << 20)
