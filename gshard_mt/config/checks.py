"""The rules between the keys of a config, all of them and without JAX."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Iterator, Mapping

from gshard_mt.config.keys import KEYS, check_values, get_value
from gshard_mt.config.records import Config
from gshard_mt.config.stages import check_stages
from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.axes import PARAMETER_RULES, RULES, names, spec
from gshard_mt.routing.strategies import DROPLESS, STRATEGIES

_AUGMENTATION = [
    key for key, each in KEYS.items() if key.startswith("data.augmentation.") and each.type is float
]
_AXES = ("data", "expert", "model", "stage", "dcn_data")

# A rule: the key it blames, whether it holds, and what would be accepted.
Rules = Iterator[tuple[str, bool, str]]


def check(config: Config, shape: Mapping[str, int] | None = None) -> None:
    """Raises ConfigError at the first value that can't work, by itself or with the others.

    `shape` has the sizes of the mesh. Without it they are the config's own, where an axis of -1
    counts as 1: to be checked again once the devices are known.
    """
    check_values(config)
    check_stages(config.train.stages, config.train.num_steps)
    if shape is None:
        shape = {name: max(1, getattr(config.mesh, name)) for name in _AXES}
    for rules in (_model_rules(config), _moe_rules(config), _mesh_rules(config, shape)):
        for key, holds, accepted in rules:
            if not holds:
                found = get_value(config, key)
                raise ConfigError(f"config.{key}: found {found!r}, accepted: {accepted}")


def _model_rules(config: Config) -> Rules:
    model, train = config.model, config.train
    shares = {key: get_value(config, key) for key in _AUGMENTATION}
    yield (
        max(shares, key=lambda key: shares[key]),
        sum(shares.values()) <= 1,
        f"less, as all shares of data.augmentation add up to {sum(shares.values()):g}, and a pair "
        "is perturbed in one way",
    )
    yield (
        "data.extend_tokenizer",
        not config.data.extend_tokenizer or not config.data.tokenizer,
        f"nothing with data.tokenizer={config.data.tokenizer}, which keeps a tokenizer as it is",
    )
    yield (
        "model.num_layers",
        model.num_decoder_layers > 0 or model.num_layers % (4 if model.moe.num_experts else 2) == 0,
        "a multiple of 4 (encoder and decoder are two equal stacks of [MoE, dense] blocks)"
        if model.moe.num_experts
        else "a multiple of 2 (half for the decoder, without model.num_decoder_layers)",
    )
    yield (
        "model.num_layers",
        not (model.moe.num_experts and model.num_layers % 2),
        "an even number (blocks are [MoE, dense])",
    )
    yield (
        "model.num_decoder_layers",
        model.num_decoder_layers < model.num_layers
        and not (model.moe.num_experts and model.num_decoder_layers % 2),
        f"less than model.num_layers={model.num_layers}, the layers of both"
        + (", and even, as blocks are [MoE, dense]" if model.moe.num_experts else ""),
    )
    yield (
        "model.tie_embeddings",
        not model.tie_embeddings or config.data.joint_vocabulary,
        "False with two vocabularies (or set data.joint_vocabulary=true)",
    )
    yield (
        "train.accumulation_steps",
        train.batch_rows % train.accumulation_steps == 0,
        f"a divisor of train.batch_rows={train.batch_rows}",
    )
    yield (
        "train.l2_sp",
        train.l2_sp * train.learning_rate <= 1,
        f"at most {1 / train.learning_rate:g}, 1 / train.learning_rate (a step would pull a "
        "parameter beyond where it began)",
    )
    yield (
        "train.save_every",
        train.save_every % train.log_every == 0,
        f"a multiple of train.log_every={train.log_every} (else a restart would split a line of "
        "metrics)",
    )
    yield (
        "train.best_by",
        train.best_by != "bleu" or train.bleu_every > 0,
        "nll (bleu needs train.bleu_every)",
    )


def _moe_rules(config: Config) -> Rules:
    moe = config.model.moe
    if not moe.num_experts:
        return
    gates = {moe.gate_of(is_decoder=False): None, moe.gate_of(is_decoder=True): None}
    strategies = [STRATEGIES[name] for name in gates]
    yield (
        "model.moe.decoder_gate",
        STRATEGIES[moe.gate_of(is_decoder=True)].is_causal,
        f"a gate of its own, such as top2 (with {moe.gate} a token depends on later ones)",
    )
    taken = {option for strategy in strategies for option in strategy.options}
    for name in ("second_policy", "count_rejected", "num_choices"):
        key = f"model.moe.{name}"
        owners = [owner for owner, strategy in STRATEGIES.items() if name in strategy.options]
        yield (
            key,
            name in taken or getattr(moe, name) == KEYS[key].default,
            f"{KEYS[key].default!r} (gate {' and '.join(gates)} does not take it; "
            f"{', '.join(owners)} would)",
        )
    yield (
        "model.moe.num_choices",
        "num_choices" not in taken or moe.num_choices <= moe.num_experts,
        f"1 to model.moe.num_experts={moe.num_experts}",
    )
    has_groups = any(strategy.has_expert_groups for strategy in strategies)
    yield (
        "model.moe.num_expert_groups",
        has_groups or not moe.num_expert_groups,
        "0 (only gate hierarchical takes it)",
    )
    yield (
        "model.moe.num_expert_groups",
        not has_groups
        or (moe.num_expert_groups > 0 and moe.num_experts % moe.num_expert_groups == 0),
        f"2 or more, a divisor of model.moe.num_experts={moe.num_experts} (gate hierarchical)",
    )
    for name in ("z_loss_weight", "router_jitter"):
        yield (
            f"model.moe.{name}",
            not getattr(moe, name) or any(strategy.has_logits for strategy in strategies),
            f"0.0 (gate {moe.gate} has no logits)",
        )
    for name in ("all_to_all_dtype", "all_to_all_chunks"):
        default = KEYS[f"model.moe.{name}"].default
        yield (
            f"model.moe.{name}",
            moe.dispatch != DROPLESS or getattr(moe, name) == default,
            f"{default!r} (dispatch dropless has no all-to-all)",
        )
    yield (
        "model.moe.dispatch",
        moe.dispatch != DROPLESS or all(strategy.is_causal for strategy in strategies),
        "auto, slots, einsum (experts of gate expert_choice choose as many tokens as they have "
        "slots)",
    )


def _mesh_rules(config: Config, shape: Mapping[str, int]) -> Rules:
    mesh, model, moe = config.mesh, config.model, config.model.moe
    rest = [axis for axis in _AXES if getattr(mesh, axis) == -1]
    yield (
        f"mesh.{rest[-1] if rest else 'data'}",
        len(rest) < 2,
        "1 or more (only one axis can be -1, the remaining devices)",
    )
    yield (
        "mesh.stage",
        mesh.stage == 1 or not moe.num_experts,
        "1 with experts (a pipeline is for dense models, model.moe.num_experts=0)",
    )
    num_parts = config.train.accumulation_steps
    rows = config.train.batch_rows // num_parts  # of a micro-batch
    for key, letter, size, unit in (
        ("train.batch_rows", "B", rows, num_parts),
        ("model.num_decoder_layers", "P", model.num_decoder_layers, 1),
        (
            "model.num_layers",
            "P",
            model.layers_of(is_decoder=False),
            1 if model.num_decoder_layers else 2,
        ),
        ("model.num_heads", "N", model.num_heads, 1),
        ("model.ffn_dim", "H", model.ffn_dim, 1),
        ("model.model_dim", "M", model.model_dim, 1),
        ("model.moe.num_experts", "E", moe.num_experts, 1),
        ("model.moe.shared_ffn_dim", "H", moe.shared_ffn_dim, 1),
    ):
        num_shards, grid = _split(letter, shape, mesh.shard_parameters)
        accepted = f"a multiple of {num_shards * unit} (split over {grid})"
        yield key, size % num_shards == 0, accepted
    if not moe.num_experts:
        return
    num_shards, grid = _split("G", shape)
    part = "batch_rows" if num_parts == 1 else "batch_rows / train.accumulation_steps"
    for side in ("source", "target"):
        length = getattr(config.data, f"{side}_length")
        tokens = rows * length
        product = f"{tokens} {side} tokens (train.{part}={rows} x data.{side}_length={length})"
        unit = num_parts * moe.group_size // math.gcd(moe.group_size, length)
        yield (
            "model.moe.group_size",
            tokens % moe.group_size == 0,
            f"a divisor of the {product}, or train.batch_rows a multiple of {unit}",
        )
        yield (
            "model.moe.group_size",
            tokens // moe.group_size % num_shards == 0,
            f"a size that cuts the {product} into a multiple of {num_shards} groups (split over "
            f"{grid})",
        )


def _split(letter: str, shape: Mapping[str, int], is_parameter: bool = False) -> tuple[int, str]:
    """Returns into how many parts the mesh splits an array axis, and the mesh axes that do it."""
    axes = names(spec(letter, shape, PARAMETER_RULES if is_parameter else RULES)[0])
    grid = " x ".join(f"mesh.{name}={shape[name]}" for name in axes if shape[name] > 1)
    return math.prod(shape[name] for name in axes), grid
