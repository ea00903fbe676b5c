"""Tatoeba, 138 languages into English: 8 experts in every other layer, the arithmetic of the dense.

    gshard-prepare-data --config configs/tatoeba_dense.py --data_dir DATA
    gshard-train --config configs/tatoeba_moe_8e.py --data_dir DATA --workdir RUN

A token of configs/tatoeba_dense.py meets 8 feed-forwards of 1024 hidden units: 8,192. Here it meets
4 of width H and, in 4 MoE layers, two experts of width H each: 12 H, with H = 680 that is 8,160.
Dev BLEU: 23.1 (docs/results.md).
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import runpy

from gshard_mt.config import Config

_DENSE = runpy.run_path(str(pathlib.Path(__file__).with_name("tatoeba_dense.py")))


def get_config() -> Config:
    config = _DENSE["get_config"]()
    config.model.ffn_dim = 680
    config.model.moe.num_experts = 8
    config.model.moe.group_size = 512
    return config
