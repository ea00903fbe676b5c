"""Which gate a stack has, and which settings of `model.moe` go together."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.records import ModelConfig, MoeConfig
from gshard_mt.errors import ConfigError, suggest
from gshard_mt.routing.dispatch import DISPATCH_NAMES, DROPLESS
from gshard_mt.routing.gating import GATINGS


def gate_of(config: ModelConfig, is_decoder: bool) -> str:
    """Returns the name of a stack's gate."""
    moe = config.moe
    return moe.decoder_gate if is_decoder and moe.decoder_gate != "same" else moe.gate


def check_moe(config: ModelConfig) -> None:
    """Raises ConfigError for a name that is in no table, or an option that can't apply."""
    moe, defaults = config.moe, MoeConfig()
    names = {"gate": gate_of(config, False), "decoder_gate": gate_of(config, True)}
    for key, name in names.items():
        if name not in GATINGS:
            raise ConfigError(f"config.model.moe.{key}: found {name!r}{suggest(name, GATINGS)}")
    if moe.dispatch not in DISPATCH_NAMES:
        near = suggest(moe.dispatch, DISPATCH_NAMES)
        raise ConfigError(f"config.model.moe.dispatch: found {moe.dispatch!r}{near}")
    if not GATINGS[names["decoder_gate"]].is_causal:
        raise ConfigError(
            f"config.model.moe.decoder_gate: found {names['decoder_gate']!r}, which lets a token "
            "depend on later ones; accepted: another gate for the decoder, as top2"
        )
    gatings = [GATINGS[name] for name in names.values()]
    taken = {option for gating in gatings for option in gating.options}
    for key in ("second_policy", "count_rejected", "num_choices"):
        if key not in taken and getattr(moe, key) != getattr(defaults, key):
            owners = [name for name, gating in GATINGS.items() if key in gating.options]
            raise ConfigError(
                f"config.model.moe.{key}: found {getattr(moe, key)!r}, which gate "
                f"{' and '.join(dict.fromkeys(names.values()))} does not take; accepted: the "
                f"default {getattr(defaults, key)!r}, or gate {' or '.join(owners)}"
            )
    if "num_choices" in taken and moe.num_choices > moe.num_experts:
        raise ConfigError(
            f"config.model.moe.num_choices: found {moe.num_choices}, "
            f"accepted: 1 to model.moe.num_experts={moe.num_experts}"
        )
    needs_groups = any("primary_GSA" in gating.products for gating in gatings)
    num_groups = moe.num_expert_groups
    if needs_groups and (num_groups < 2 or moe.num_experts % num_groups):
        raise ConfigError(
            f"config.model.moe.num_expert_groups: found {num_groups}, accepted: a divisor of "
            f"model.moe.num_experts={moe.num_experts}, 2 or more (gate hierarchical)"
        )
    if num_groups and not needs_groups:
        raise ConfigError(
            f"config.model.moe.num_expert_groups: found {num_groups}, accepted: 0, or gate "
            "hierarchical"
        )
    if not any(gating.has_logits for gating in gatings):
        for key in ("z_loss_weight", "router_jitter"):
            if getattr(moe, key):
                raise ConfigError(
                    f"config.model.moe.{key}: found {getattr(moe, key)}, accepted: 0.0 (gate "
                    f"{moe.gate} has no logits)"
                )
    for key in ("all_to_all_dtype", "all_to_all_chunks"):
        value = getattr(moe, key)
        if moe.dispatch == DROPLESS and value != getattr(defaults, key):
            raise ConfigError(
                f"config.model.moe.{key}: found {value!r}, accepted: {getattr(defaults, key)!r} "
                "(dispatch dropless has no all-to-all)"
            )
    if moe.dispatch == DROPLESS and not all(gating.is_causal for gating in gatings):
        raise ConfigError(
            "config.model.moe.dispatch: found 'dropless' with gate expert_choice, whose experts "
            "choose as many tokens as they have slots; accepted: auto, slots, einsum"
        )
