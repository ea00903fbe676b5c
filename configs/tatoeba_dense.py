"""Tatoeba, 137 languages into English, dense: the baseline, 8 layers of width 256.

gshard-prepare-data --config configs/tatoeba_dense.py --data_dir DATA
python scripts/train_and_compare.py configs/experiments/tatoeba.toml --data_dir DATA --workdir RUNS

For one GPU: 16,384 tokens per side and step, 41.8 million target tokens in all.
configs/tatoeba_moe_8e.py and configs/tatoeba_moe_64e.py differ only in their feed-forwards. Dev
BLEU, the mean of all languages: 22.6 (docs/results.md). With 16,000 source subwords, 4,000 steps
and wider initial weights it was 19.3; with dropout 0.2, 22.3 at a lower dev nll.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config


def get_config() -> Config:
    config = Config()
    config.data.recipe = "../data/tatoeba.toml"
    config.data.source_vocab_size = 64000
    config.data.target_vocab_size = 8000
    config.data.source_length = 64
    config.data.target_length = 64
    config.data.num_dev = 100
    config.data.num_test = 0
    config.data.temperature = 5.0
    config.model.num_layers = 8
    config.model.model_dim = 256
    config.model.ffn_dim = 1024
    config.model.num_heads = 4
    config.model.head_dim = 64
    config.model.dropout_rate = 0.1
    config.model.dtype = "bfloat16"
    config.model.moe.num_experts = 0
    config.train.batch_rows = 256
    config.train.num_steps = 3200
    config.train.optimizer = "adamw"
    config.train.learning_rate = 2e-3
    config.train.schedule = "linear"
    config.train.warmup_steps = 200
    config.train.label_smoothing = 0.1
    config.train.log_every = 50
    config.train.eval_every = 400
    config.train.save_every = 1600
    return config
