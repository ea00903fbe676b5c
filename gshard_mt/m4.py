"""M4: what the models of the GShard paper have in common, of whatever size."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.records import Config

ROW_LENGTH = 256  # tokens of a packed row; the paper doesn't say
GROUP_SIZE = 1024  # S; with C = 2 S / E there is a slot for every expert up to 2,048 of them


def m4_config(num_experts: int, num_layers: int, batch_tokens: int) -> Config:
    """Returns the model of the paper's section 4 and appendix A.2; `num_experts` 0 is dense.

    `batch_tokens` are of the source side, as the paper counts them. The corpus isn't public: the
    recipe is that of WMT's thirty pairs. Layers are recomputed, as the paper's compiler chose to.
    """
    config = Config()
    config.data.recipe = "data/wmt30.toml"
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
    config.model.moe.group_size = GROUP_SIZE
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
    return config
