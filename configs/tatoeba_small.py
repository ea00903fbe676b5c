"""A model of width 128 with 8 experts for comparing choices on a CPU: 24 languages of Tatoeba.

    CONFIG="--config configs/tatoeba_small.py --config.data.recipe=RECIPE"
    gshard-prepare-data $CONFIG --data_dir DATA
    python scripts/train_and_compare.py configs/experiments/tatoeba_ablations.toml \\
        --data_dir DATA --workdir RUNS

1.75 million English tokens, five minutes of two cores. RECIPE names 24 languages, eight each
of much, some and little text: after so little training dev BLEU is 3.5 (greedy), dev nll 2.97.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import runpy

from gshard_mt.config import Config

_MOE_8E = runpy.run_path(str(pathlib.Path(__file__).with_name("tatoeba_moe_8e.py")))


def get_config() -> Config:
    config = _MOE_8E["get_config"]()
    config.data.source_vocab_size = 8000
    config.data.target_vocab_size = 4000
    config.data.target_length = 48
    config.model.num_layers = 4
    config.model.model_dim = 128
    config.model.ffn_dim = 512
    config.model.head_dim = 32
    config.model.dropout_rate = 0.05
    config.model.moe.group_size = 256
    config.train.batch_rows = 32
    config.train.num_steps = 1200
    config.train.learning_rate = 6e-3
    config.train.warmup_steps = 50
    config.train.eval_every = config.train.save_every = 600
    config.train.max_checkpoints = 1
    config.decode.beam_size = 1
    return config
