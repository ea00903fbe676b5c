"""A small mixture-of-experts model for the languages of recipe.toml.

    gshard-prepare-data --config config.py --data_dir data
    gshard-train --config config.py --data_dir data --workdir run
    gshard-eval --workdir run
    echo "Meine Schwester malt am Abend die gelbe Blume." | gshard-translate --workdir run

The numbers suit the sample text; beside some of them stand others, for a corpus of real text.
`gshard-train --help` lists all keys. Paths in this file are relative to it.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config


def get_config() -> Config:
    config = Config()

    # The text, and how it is split into subwords.
    config.data.recipe = "recipe.toml"
    config.data.source_vocab_size = 450  # 8_000 for 100,000 sentences, 32_000 for millions
    config.data.target_vocab_size = 350  # the same
    config.data.source_length = 64  # subwords; training sentences that have more are dropped
    config.data.target_length = 64
    config.data.temperature = 5.0  # languages with little text: 1 as often as it is, 5 more often

    # The model.
    config.model.num_layers = 4  # half of them in the decoder; a multiple of 4
    config.model.model_dim = 64  # 256 or 512
    config.model.ffn_dim = 128  # 4 * model_dim
    config.model.num_heads = 4
    config.model.head_dim = 16  # model_dim / num_heads
    config.model.moe.num_experts = 8  # 0: a dense model
    config.model.moe.group_size = 128
    config.model.dropout_rate = 0.1  # 0.3 if the text is short and the training is long

    # The training.
    config.train.num_steps = 200  # 4_000 or more
    config.train.batch_rows = 32  # 64 or more, with learning_rate = 3e-3
    config.train.optimizer = "adamw"
    config.train.learning_rate = 1e-2
    config.train.schedule = "linear"
    config.train.warmup_steps = 20  # a tenth of num_steps
    config.train.log_every = 10
    config.train.eval_every = 100  # also save_every: a checkpoint to go on from
    config.train.save_every = 100

    # The devices: all GPUs or TPU cores that there are, otherwise the CPU, share the experts.
    config.mesh.expert = -1
    return config
