"""The models of the GShard paper, by name: MoE(2048E, 36L) is configs/gshard.py:2048e_36l.

    gshard-plan --config configs/gshard.py:2048e_36l --topology v3:32x32

The paper's figures (table 3), for training on a trillion source tokens, a million of them per step,
or four (2048e, dense). BLEU: mean of translations into English, gain over bilingual models.

    name        parameters  topology    steps/s  core years  BLEU
    128e_12l    12.5B       v3:8x8      2.16     1.9         36.7  +5.9
    128e_36l    37B         v3:8x8      0.67     6.1         39.0  +8.2
    512e_12l    50B         v3:16x16    3.28     4.9         40.0  +9.2
    512e_36l    150B        v3:16x16    1.05     15.5        43.7  +12.9
    2048e_12l   200B        v3:32x32    2.15     7.5         41.3  +10.5
    2048e_36l   600B        v3:32x32    0.72     22.4        44.3  +13.5
    2048e_60l   1T          v3:32x32    bfloat16; not stable, no quality reported (section 4.3)
    dense_96l   2.3B        v3:32x32    300,000 steps  235.5 36.9  +6.1

The corpus is not public: the recipe is that of WMT's thirty language pairs. Layers are recomputed,
as the paper's compiler chose to. T(96L) was trained as a pipeline (GPipe), and its other settings
are not reported: heads of 64 come nearest to its size; here eight cores share every layer.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config import Config
from gshard_mt.errors import ConfigError

ROW_LENGTH = 256  # tokens of a packed row; the paper doesn't state it
LADDER = {  # name: experts, layers, source tokens per step
    "128e_12l": (128, 12, 1 << 20),
    "128e_36l": (128, 36, 1 << 20),
    "512e_12l": (512, 12, 1 << 20),
    "512e_36l": (512, 36, 1 << 20),
    "2048e_12l": (2048, 12, 4 << 20),
    "2048e_36l": (2048, 36, 4 << 20),
    "2048e_60l": (2048, 60, 4 << 20),
    "dense_96l": (0, 96, 4 << 20),
}


def get_config(name: str = "") -> Config:
    if name not in LADDER:
        raise ConfigError(f"configs/gshard.py:NAME: found {name!r}, accepted: {', '.join(LADDER)}")
    num_experts, num_layers, batch_tokens = LADDER[name]
    config = Config()
    config.data.recipe = "../data/wmt30.toml"
    config.data.source_vocab_size = 64_000
    config.data.target_vocab_size = 32_000
    config.data.source_length = ROW_LENGTH
    config.data.target_length = ROW_LENGTH
    config.data.temperature = 5.0
    config.model.num_layers = num_layers
    config.model.model_dim = 1024
    config.model.ffn_dim = 8192
    config.model.num_heads = 16
    config.model.head_dim = 128
    config.model.dropout_rate = 0.1
    config.model.remat = "full"
    config.model.moe.num_experts = num_experts
    config.model.moe.group_size = 1024  # with C = 2 S / E a slot for each of up to 2,048 experts
    config.train.batch_rows = batch_tokens // ROW_LENGTH
    config.train.num_steps = 1_000_000_000_000 // batch_tokens
    config.train.optimizer = "adafactor"
    config.train.learning_rate = 0.01  # 1 / sqrt(10,000)
    config.train.schedule = "paper"
    config.train.warmup_steps = 10_000
    config.train.max_grad_norm = 0.0
    config.train.log_every = 100
    config.train.eval_every = 5000
    config.train.save_every = 5000
    config.decode.length_penalty = 0.8
    if name == "2048e_60l":
        config.model.dtype = "bfloat16"
        config.mesh.model = 2  # a core could not hold the dense layers alone
    if name == "dense_96l":
        config.model.head_dim = 64
        config.train.num_steps = 300_000
        config.mesh.data, config.mesh.expert, config.mesh.model = -1, 1, 8
    return config
