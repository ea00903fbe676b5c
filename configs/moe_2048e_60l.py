"""MoE(2048E, 60L) of the GShard paper: a trillion parameters, with bfloat16 activations.

gshard-plan --config configs/moe_2048e_60l.py --topology v3:32x32

The paper trained it on 2,048 cores of TPU v3 and reports no quality: its numbers were not stable
(section 4.3). Table 1 counts 61,440 experts.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.m4 import m4_config


def get_config() -> Config:
    config = m4_config(num_experts=2048, num_layers=60, batch_tokens=4 << 20)
    config.model.dtype = "bfloat16"
    config.mesh.model = 2  # what every core has of the dense layers would not fit
    return config
