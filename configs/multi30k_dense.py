"""Multi30k German-English, dense, 3+3 layers: the sizes of the Marian baseline, fully trained.

    CONFIG="--config configs/multi30k_dense.py --config.data.recipe=RECIPE"
    gshard-prepare-data $CONFIG --data_dir DATA
    gshard-train $CONFIG --data_dir DATA --workdir RUN
    gshard-eval --workdir RUN

RECIPE is a TOML file with `tsv:` entries for the train, dev and test splits of task 1. 35 epochs: a
few minutes on a GPU, 80 on two CPU cores. test2016: BLEU 42.0, tokenized and lower-cased 42.3; with
half the batch size and an hour of two CPU cores 41.5 and 41.8 (docs/results.md). With only 29,000
captions, long training needs much dropout: 0.4 is 1.2 worse after these steps; 0.1 suits three
epochs.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config


def get_config() -> Config:
    config = Config()
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
    config.model.dropout_rate = 0.3
    config.model.moe.num_experts = 0
    config.model.dtype = "bfloat16"  # float32 where the CPU has no bfloat16 products
    config.train.batch_rows = 64
    config.train.num_steps = 4000
    config.train.optimizer = "adamw"
    config.train.learning_rate = 2e-3
    config.train.schedule = "linear"
    config.train.warmup_steps = 400
    config.train.log_every = 50
    config.train.eval_every = 500
    config.train.bleu_every = 1000
    config.train.bleu_sentences = 1014  # all
    config.train.best_by = "bleu"
    config.train.save_every = 500
    config.train.max_checkpoints = 4
    return config
