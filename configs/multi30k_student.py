"""A student of multi30k_dense.py: a third of its parameters, 4 encoder layers and 1 decoder layer.

    CONFIG="--config configs/multi30k_student.py"
    gshard-prepare-data $CONFIG --data_dir DATA --config.data.recipe=RECIPE \\
        --config.data.tokenizer=TEACHER_DATA
    gshard-train $CONFIG --data_dir DATA --workdir STUDENT

RECIPE lists what the teacher has written (docs/distillation.md). Most of a translation's time is
spent in the decoder, which runs once for every subword, so decoder layers are those to save.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.config import Config
from gshard_mt.config.load import load_config


def get_config() -> Config:
    config = load_config(pathlib.Path(__file__).with_name("multi30k_dense.py"))
    config.model.num_layers = 5
    config.model.num_decoder_layers = 1
    config.model.model_dim = 128
    config.model.ffn_dim = 512
    config.model.head_dim = 32
    config.model.dropout_rate = 0.1  # a teacher's translations vary less than people's
    config.train.learning_rate = 3e-3
    return config
