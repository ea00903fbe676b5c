"""What a run wrote down while it trained, read for its report: metrics.jsonl and routing.jsonl."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_TRAIN_KEYS = {"step", "loss", "nll"}
_DEV_KEYS = {"step", "pair", "nll"}
_BLEU_KEYS = {"step", "pair", "bleu"}
_ROUTING_KEYS = {"step", "stack", "layer", "pairs", "load", "entropy"}
_ROUTING_KEYS |= {"tokens", "sent", "wanted", "over_capacity"}


@dataclass(frozen=True, slots=True)
class History:
    """Lines as `train.metrics` has written them, in their order; empty where a file is missing."""

    train: tuple[dict[str, Any], ...] = ()
    dev: tuple[dict[str, Any], ...] = ()
    routing: tuple[dict[str, Any], ...] = ()
    bleu: tuple[dict[str, Any], ...] = ()  # of the dev samples

    def mean_dev_nll(self) -> dict[int, float]:
        """Returns by step the mean over languages."""
        return _means(self.dev, "nll")

    def mean_dev_bleu(self) -> dict[int, float]:
        """Returns by step the mean over languages of the samples' BLEU."""
        return _means(self.bleu, "bleu")

    def dev_nll(self, step: int) -> dict[str, float]:
        """Returns the nll by pair of the last dev evaluation up to a step; `{}` without one."""
        return {line["pair"]: line["nll"] for line in _last(self.dev, step)}

    def routing_of(self, step: int) -> list[dict[str, Any]]:
        """Returns the last line of every MoE layer up to a step, the encoder's layers first."""
        lines = _last(self.routing, step)
        return sorted(lines, key=lambda line: (line["stack"] != "encoder", line["layer"]))


def read_history(workdir: pathlib.Path) -> History:
    """Reads what there is. Half a line, as a run under way or killed has, is no line."""
    metrics = _read_lines(pathlib.Path(workdir) / "metrics.jsonl")
    routing = _read_lines(pathlib.Path(workdir) / "routing.jsonl")
    train = (line for line in metrics if line.get("split") == "train")
    dev = [line for line in metrics if line.get("split") == "dev"]
    return History(
        train=tuple(line for line in train if _TRAIN_KEYS <= set(line)),
        dev=tuple(line for line in dev if _DEV_KEYS <= set(line)),
        routing=tuple(line for line in routing if _ROUTING_KEYS <= set(line)),
        bleu=tuple(line for line in dev if _BLEU_KEYS <= set(line)),
    )


def _means(lines: Sequence[dict[str, Any]], key: str) -> dict[int, float]:
    values = defaultdict(list)
    for line in lines:
        values[line["step"]].append(line[key])
    return {step: sum(own) / len(own) for step, own in values.items()}


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    found = []
    if not path.exists():
        return found
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found


def _last(lines: Sequence[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    steps = [line["step"] for line in lines if line["step"] <= step]
    return [line for line in lines if line["step"] == max(steps)] if steps else []


def expert_shares(line: Mapping[str, Any]) -> np.ndarray:
    """Returns shares_XE of a routing line: of a pair's dispatched choices, those of each expert.

    A row sums to 1; that of a pair of which nothing was dispatched has NaN.
    """
    load_XE = np.array(line["load"], np.float64)
    total_X1 = load_XE.sum(axis=1, keepdims=True)
    return np.divide(load_XE, total_X1, out=np.full_like(load_XE, np.nan), where=total_X1 > 0)


@dataclass(frozen=True, slots=True)
class Losses:
    """What capacity took from each pair, over all MoE layers of a stack; NaN where nothing was."""

    to_no_expert_X: np.ndarray  # of its tokens, the share that went to 0 experts
    over_capacity_X: np.ndarray  # of its choices, the share that found their expert full


def losses(lines: Sequence[Mapping[str, Any]]) -> dict[str, Losses]:
    """Returns by stack what each pair lost, from the routing lines of one step."""
    found = {}
    for stack in dict.fromkeys(line["stack"] for line in lines):
        own = [line for line in lines if line["stack"] == stack]
        tokens_X, sent_XK, wanted_XK, over_XK = (
            np.add.reduce([line[key] for line in own], dtype=np.float64)
            for key in ("tokens", "sent", "wanted", "over_capacity")
        )
        found[stack] = Losses(
            to_no_expert_X=_ratio(sent_XK[:, 0], tokens_X),
            over_capacity_X=_ratio(over_XK.sum(axis=1), wanted_XK.sum(axis=1)),
        )
    return found


def _ratio(part_X: np.ndarray, whole_X: np.ndarray) -> np.ndarray:
    return np.divide(part_X, whole_X, out=np.full_like(whole_X, np.nan), where=whole_X > 0)
