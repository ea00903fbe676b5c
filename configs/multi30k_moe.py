"""Multi30k German-English with 8 experts and the feed-forward arithmetic of multi30k_dense.py.

    CONFIG="--config configs/multi30k_moe.py --config.data.recipe=RECIPE"
    gshard-prepare-data $CONFIG --data_dir DATA
    gshard-train $CONFIG --data_dir DATA --workdir RUN

MoE and dense layers alternate, so there are 8 layers where the dense model has 6. A token passes
through 4 dense feed-forwards and two experts in each of 4 MoE layers, all of 512 hidden units:
12 x 512 = 6,144, as many as the dense model's 6 x 1024. There are two attention layers more.
test2016: BLEU 42.0, tokenized and lower-cased 42.3, the same as dense; with half the batch size and
an hour of two CPU cores 40.8 (docs/results.md).
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.config import Config
from gshard_mt.config.load import load_config


def get_config() -> Config:
    config = load_config(pathlib.Path(__file__).with_name("multi30k_dense.py"))
    config.model.num_layers = 8
    config.model.ffn_dim = 512
    config.model.moe.num_experts = 8
    config.model.moe.group_size = 512
    config.model.ffn_dropout_rate = 0.3
    return config
