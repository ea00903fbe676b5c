"""A small sparse model for your own text: the smoke run's model, on whatever devices there are.

    gshard-prepare-data --config small --config.data.recipe=my.toml --data_dir DATA
    gshard-train --config small --data_dir DATA --workdir RUN
    gshard-eval --workdir RUN

Trains in minutes on a GPU or a few CPU cores. For more text raise --config.train.num_steps,
--config.data.source_vocab_size and --config.model.model_dim.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.config import Config
from gshard_mt.config.load import load_config


def get_config() -> Config:
    config = load_config(pathlib.Path(__file__).with_name("smoke.py"))
    config.data.recipe = ""  # yours
    config.data.source_vocab_size = 8000
    config.data.target_vocab_size = 8000
    config.mesh.num_cpu_devices = 0
    config.mesh.shard_parameters = False
    return config
