"""Multi30k German-English, dense, 3+3 layers: the sizes of Marian's yardstick.

    CONFIG="--config configs/multi30k_dense.py --config.data.recipe=RECIPE"
    gshard-prepare-data $CONFIG --data_dir DATA
    gshard-train $CONFIG --data_dir DATA --workdir RUN

RECIPE is a TOML file with `tsv:` entries for the train, dev and test splits of task 1.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config


def get_config() -> Config:
    config = Config()
    config.data.recipe = "multi30k.toml"
    config.data.source_vocab_size = 8000
    config.data.target_vocab_size = 8000
    config.data.source_length = 64
    config.data.target_length = 64
    config.data.temperature = 1.0
    config.model.num_layers = 6
    config.model.model_dim = 256
    config.model.ffn_dim = 1024
    config.model.num_heads = 4
    config.model.head_dim = 64
    config.model.moe.num_experts = 0
    config.model.dtype = "bfloat16"  # float32 where the CPU has no bfloat16 products
    config.train.batch_rows = 32
    config.train.num_steps = 682  # three passes
    config.train.optimizer = "adamw"
    config.train.learning_rate = 2e-3
    config.train.schedule = "linear"
    config.train.warmup_steps = 100
    config.train.eval_every = 200
    config.train.save_every = 200
    return config
