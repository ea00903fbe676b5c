"""The smoke run: twelve languages into English in minutes on two cores.

make smoke
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config


def get_config() -> Config:
    config = Config()
    config.data.recipe = "../data/home_assistant_smoke.toml"
    config.data.source_vocab_size = 32_000
    config.data.target_vocab_size = 4000
    config.data.source_length = 64
    config.data.target_length = 48
    config.data.temperature = 2.0
    config.model.num_layers = 4
    config.model.moe.num_experts = 8
    config.model.moe.group_size = 128
    config.model.dropout_rate = 0.05
    config.train.num_steps = 1100
    config.train.optimizer = "adamw"
    config.train.learning_rate = 6e-3
    config.train.schedule = "linear"
    config.train.warmup_steps = 50
    config.train.eval_every = 220
    config.train.save_every = 220
    config.mesh.num_cpu_devices = 8
    config.mesh.shard_parameters = True  # else every device updates all that are not experts'
    return config
