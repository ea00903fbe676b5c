"""Tatoeba, 137 languages into English: 8 experts, as much arithmetic per token as dense.

    gshard-prepare-data --config configs/tatoeba_dense.py --data_dir DATA
    gshard-train --config configs/tatoeba_moe_8e.py --data_dir DATA --workdir RUN

A token of configs/tatoeba_dense.py passes through 8 feed-forwards of 1024 hidden units: 8,192. Here
it passes through 4 of width H and, in 4 MoE layers, two experts of width H each: 12 H = 8,160 with
H = 680.
Dev BLEU: 23.1 (docs/results.md).
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.config import Config
from gshard_mt.config.load import load_config


def get_config() -> Config:
    config = load_config(pathlib.Path(__file__).with_name("tatoeba_dense.py"))
    config.model.ffn_dim = 680
    config.model.moe.num_experts = 8
    config.model.moe.group_size = 512
    return config
