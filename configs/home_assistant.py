"""Home Assistant's translations, 48 languages into English, with 8 experts: real text in an hour.

    gshard-prepare-data --config configs/home_assistant.py --data_dir DATA
    gshard-train --config configs/home_assistant.py --data_dir DATA --workdir RUN
    gshard-eval --workdir RUN

The model of configs/tatoeba_moe_8e.py on batches of a quarter, meant for an hour of CPU (with
--config.model.dtype=float32 where it has no bfloat16 products) or minutes on a GPU. No scores yet.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import runpy

from gshard_mt.config import Config

_MOE_8E = runpy.run_path(str(pathlib.Path(__file__).with_name("tatoeba_moe_8e.py")))


def get_config() -> Config:
    config = _MOE_8E["get_config"]()
    config.data.recipe = "data/home_assistant.toml"
    config.data.target_vocab_size = 4000
    config.data.target_length = 48
    config.data.num_test = 100
    config.data.temperature = 3.0
    config.model.dropout_rate = 0.3
    config.model.expert_dropout_rate = 0.3
    config.train.batch_rows = 32
    config.train.num_steps = 1500
    config.train.eval_every = config.train.save_every = 300
    return config
