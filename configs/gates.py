"""A small sparse model for comparing gates: the smoke data, 2,000 steps, one device.

gshard-prepare-data --config configs/gates.py --data_dir DATA
python scripts/train_and_compare.py configs/experiments/gates.toml --data_dir DATA --workdir RUNS
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config


def get_config() -> Config:
    config = Config()
    config.data.recipe = "../data/home_assistant_smoke.toml"
    config.data.source_vocab_size = 8000
    config.data.target_vocab_size = 4000
    config.data.source_length = 64
    config.data.target_length = 48
    config.data.temperature = 2.0
    config.model.num_layers = 4
    config.model.dropout_rate = 0.05
    config.model.moe.num_experts = 8
    config.model.moe.group_size = 128
    config.train.batch_rows = 8
    config.train.num_steps = 2000
    config.train.optimizer = "adamw"
    config.train.learning_rate = 3e-3
    config.train.schedule = "linear"
    config.train.warmup_steps = 100
    config.train.log_every = 50
    config.train.eval_every = 1000
    config.train.save_every = 1000
    config.train.max_checkpoints = 1
    config.mesh.expert = 1
    return config
