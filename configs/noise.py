"""Does cleaning help? Multi30k with noise (German, French), a small model, filters on or off.

    python scripts/train_and_compare.py configs/experiments/noise.toml --data_dir DATA \\
        --workdir RUNS

configs/noise.py:off switches off all filters but those of duplicates. The experiment says how its
corpora are made. A model takes three to four minutes of one CPU core.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.config import Config
from gshard_mt.config.load import load_config
from gshard_mt.errors import ConfigError

SWITCHES = (
    "control_characters",
    "copied",
    "html",
    "placeholders",
    "numbers",
    "swapped",
    "script",
    "language",
)


def get_config(filters: str = "on") -> Config:
    if filters not in ("on", "off"):
        raise ConfigError(f"configs/noise.py:FILTERS: found {filters!r}, accepted: on, off")
    config = load_config(pathlib.Path(__file__).with_name("multi30k_dense.py"))
    config.data.recipe = "../build/noise/mix_0/recipe.toml"  # scripts/add_noise.py makes it
    config.data.source_vocab_size = 4000
    config.data.target_vocab_size = 4000
    config.model.num_layers = 4
    config.model.model_dim = 128
    config.model.ffn_dim = 512
    config.model.head_dim = 32
    config.model.dropout_rate = 0.0  # less than an epoch
    config.model.dtype = "float32"
    config.train.batch_rows = 32
    config.train.num_steps = 350
    config.train.learning_rate = 4e-3
    config.train.warmup_steps = 50
    config.train.eval_every = 350
    config.train.bleu_every = 0
    config.train.best_by = "nll"
    config.train.save_every = 350
    config.mesh.num_cpu_devices = 1
    config.decode.beam_size = 1
    if filters == "off":
        config.data.cleaning.max_characters = 0
        config.data.cleaning.max_length_ratio = 0.0
        for name in SWITCHES:
            setattr(config.data.cleaning, name, False)
    return config
