"""Which experts a pruned model keeps: in every layer those that are worth most to its languages."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import Config, MoeConfig
from gshard_mt.errors import CheckpointError, ConfigError
from gshard_mt.languages import find_language, source_language
from gshard_mt.routing.strategies import STRATEGIES
from gshard_mt.run.directory import Run
from gshard_mt.run.journal import History, expert_shares

LOAD, LOSS = "load", "loss"  # what experts are chosen by

# Of some language pairs: layer (`encoder.layers.2`) -> worth_E, of each expert.
Worth = Callable[[Sequence[str]], Mapping[str, np.ndarray]]


class Pruning(NamedTuple):
    """The experts that stay, with the language pairs that they were chosen for."""

    pairs: tuple[str, ...]
    num_experts: int  # of a layer, before
    kept: Mapping[str, tuple[int, ...]]  # `encoder.layers.2` -> their numbers, ascending
    chosen_by: str = LOAD

    @property
    def num_kept(self) -> int:
        """The number of experts of every layer that stay."""
        return len(next(iter(self.kept.values())))


def plan_pruning(
    run: Run, languages: Sequence[str], share: float, worth: Worth, chosen_by: str = LOAD
) -> Pruning:
    """Returns the experts to keep: in each layer the `share` of them that are worth most.

    They are for the languages given (none: all of the run). Raises ConfigError for a model that
    can't be pruned so, and what `worth` raises.
    """
    moe = run.config.model.moe
    _check_gates(moe)
    num_kept = _number(moe, share)
    pairs = _pairs(run, languages)
    kept = {}
    for layer, worth_E in worth(pairs).items():
        best_E = np.argsort(-worth_E, kind="stable")[:num_kept]
        kept[layer] = tuple(sorted(int(number) for number in best_E))
    return Pruning(tuple(pairs), moe.num_experts, kept, chosen_by)


def load_of_experts(history: History, step: int) -> Worth:
    """Returns what takes an expert's share of the load for its worth.

    Loads are those of the training steps before the last dev evaluation up to `step`; every
    language pair counts the same, whatever its text. Raises CheckpointError if there are none.
    """

    def worth(pairs: Sequence[str]) -> dict[str, np.ndarray]:
        lines = history.routing_of(step)
        if not lines:
            raise CheckpointError(
                f"--keep_experts: routing.jsonl has no loads up to step {step}; accepted: a run "
                "directory with a dev evaluation before that step"
            )
        found = {}
        for line in lines:
            of_pairs = [line["pairs"].index(pair) for pair in pairs if pair in line["pairs"]]
            shares_XE = np.nan_to_num(expert_shares(line)[of_pairs])
            found[f"{line['stack']}.layers.{line['layer']}"] = shares_XE.sum(axis=0)
        return found

    return worth


def pruned(run: Run, pruning: Pruning) -> Run:
    """Returns the run as if it had been trained with the experts and languages that stay."""
    train_pairs = {pair: run.train_pairs[pair] for pair in pruning.pairs}
    config = with_experts(run.config, pruning.num_kept)
    return run._replace(config=config, train_pairs=train_pairs)


def with_experts(config: Config, num_experts: int) -> Config:
    """Returns the config with another number of experts."""
    moe = dataclasses.replace(config.model.moe, num_experts=num_experts)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, moe=moe))


def gates_of(moe: MoeConfig) -> list[str]:
    """Returns the gates of encoder and decoder."""
    return [moe.gate_of(is_decoder) for is_decoder in (False, True)]


def _check_gates(moe: MoeConfig) -> None:
    if not moe.num_experts:
        raise ConfigError("--keep_experts: found for a dense model, accepted: one with experts")
    for gate in gates_of(moe):
        strategy = STRATEGIES[gate]
        if not strategy.has_logits or strategy.has_expert_groups:
            can = [
                name
                for name, each in STRATEGIES.items()
                if each.has_logits and not each.has_expert_groups
            ]
            raise ConfigError(
                f"--keep_experts: found for the gate {gate}, accepted: {', '.join(can)}"
            )


def _number(moe: MoeConfig, share: float) -> int:
    num_experts, least = moe.num_experts, 2
    for gate in gates_of(moe):
        most = STRATEGIES[gate].max_experts(moe.num_choices, num_experts, moe.num_expert_groups)
        least = max(least, most)
    number = round(share * num_experts)
    if not (0 < share <= 1 and number >= least):
        raise ConfigError(
            f"--keep_experts: found {share:g} of {num_experts} experts, accepted: "
            f"{least / num_experts:g} (the {least} that a layer needs) to 1"
        )
    return number


def _pairs(run: Run, languages: Sequence[str]) -> list[str]:
    known = {source_language(pair): pair for pair in run.train_pairs}
    found = set()
    for language in languages:
        run.check_language(language, "--languages")
        found.add(known[find_language(language, list(known)) or language])
    return [pair for pair in run.train_pairs if pair in (found or run.train_pairs)]
