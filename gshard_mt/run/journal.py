"""The journal of a run: metrics, routing and changes of mixture, one JSON object per line."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import json
import math
import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gshard_mt.documents import write_whole
from gshard_mt.run.mirror import find_mirror

METRICS, ROUTING, MIXTURES = "metrics.jsonl", "routing.jsonl", "mixtures.jsonl"

# Counts of one MoE layer in routing.jsonl, by language pair (X), and their names in `Counters`.
_COUNTS = {
    "tokens": "num_tokens_X",
    "sent": "num_dispatched_XK",  # tokens that went to 0, 1, ... experts
    "wanted": "num_selected_XK",  # first choices, second choices, ...
    "over_capacity": "num_over_capacity_XK",  # the choices whose expert was full
    "load": "load_XE",
    "entropy": "entropy_X",  # nats, summed over tokens
}
_ROUTING_FIELDS = {"step", "stack", "layer", "pairs", *_COUNTS}


class JsonLines:
    """A file of JSON objects, one per line, each with its `step`; resumed after a step.

    Later lines, left by a run that was killed after its last checkpoint, are removed. Only the
    writer among several processes touches the file.
    """

    def __init__(self, path: pathlib.Path, from_step: int, is_writer: bool = True):
        if is_writer:
            kept = [line for line in _read_lines(path) if line.get("step", math.inf) <= from_step]
            write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._mirror = find_mirror(path.parent) if is_writer else None
        self._name = path.name
        self._file = open(path if is_writer else os.devnull, "a", encoding="utf-8")
        if self._mirror:
            self._mirror.push_journal(path.name, whole=True)

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line; a killed run keeps it."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._mirror:
            self._mirror.push_journal(self._name)

    def close(self) -> None:
        self._file.close()


def routing_lines(
    step: int, routing: Mapping[str, Any], pairs: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yields a line of routing.jsonl for every MoE layer, from `Counters` [layers, ...] by stack.

    `layer` is the layer's index in its stack, from 0; every other layer is dense.
    """
    for stack, counters in routing.items():
        counts = {key: np.asarray(getattr(counters, name)) for key, name in _COUNTS.items()}
        for index in range(len(counts["tokens"])):
            yield {
                "step": step,
                "stack": stack,
                "layer": 2 * index,
                "pairs": list(pairs),
                **{key: array[index].tolist() for key, array in counts.items()},
            }


def summarize(line: Mapping[str, Any]) -> dict[str, float]:
    """Returns the fractions of a routing line over all language pairs.

    `sent_to_n` are fractions of the tokens, `over_capacity_n` of the n-th choices, `max_load` is
    the busiest expert's load relative to the mean, `entropy` is in nats per token.
    """
    tokens = max(sum(line["tokens"]), 1)
    sent_K, wanted_K, over_K, load_E = (
        np.sum(line[key], axis=0) for key in ("sent", "wanted", "over_capacity", "load")
    )
    over_K = over_K / np.maximum(wanted_K, 1)
    found = {f"sent_to_{n}": float(share) for n, share in enumerate(sent_K / tokens)}
    found |= {f"over_capacity_{n}": float(share) for n, share in enumerate(over_K, 1)}
    found["max_load"] = float(load_E.max() * len(load_E) / max(load_E.sum(), 1))
    found["entropy"] = sum(line["entropy"]) / tokens
    return found


@dataclass(frozen=True, slots=True)
class History:
    """The lines of metrics.jsonl by kind and of routing.jsonl, in the order they were written."""

    train: tuple[dict[str, Any], ...] = ()
    dev: tuple[dict[str, Any], ...] = ()
    routing: tuple[dict[str, Any], ...] = ()
    bleu: tuple[dict[str, Any], ...] = ()  # of the dev samples

    def total(self, key: str, step: float) -> float:
        """Returns the sum of a number over the training steps up to a step."""
        return sum(line.get(key, 0) for line in self.train if line["step"] <= step)

    def training_seconds(self, step: float = math.inf) -> float:
        """Returns the time of the training steps up to a step, without compilation."""
        return self.total("seconds", step) - self.total("compile_seconds", step)

    def mean_dev_nll(self) -> dict[int, float]:
        """Returns by step the mean over languages."""
        return _means(self.dev, "nll")

    def mean_dev_bleu(self) -> dict[int, float]:
        """Returns by step the mean over languages of the BLEU on the dev samples."""
        return _means(self.bleu, "bleu")

    def dev_nll(self, step: int) -> dict[str, float]:
        """Returns by language pair the nll of the last dev evaluation up to a step, if any."""
        return {line["pair"]: line["nll"] for line in _last(self.dev, step)}

    def routing_of(self, step: int) -> list[dict[str, Any]]:
        """Returns the last line of every MoE layer up to a step, the encoder's layers first."""
        lines = _last(self.routing, step)
        return sorted(lines, key=lambda line: (line["stack"] != "encoder", line["layer"]))


def read_history(workdir: pathlib.Path) -> History:
    """Reads the journal of a run, which may be incomplete, or missing, while the run is going."""
    metrics, routing = (_read_lines(pathlib.Path(workdir) / name) for name in (METRICS, ROUTING))

    def of_kind(split: str, fields: set[str]) -> tuple[dict[str, Any], ...]:
        """The lines of metrics.jsonl that have all the fields."""
        return tuple(line for line in metrics if line.get("split") == split and fields <= set(line))

    return History(
        train=of_kind("train", {"step", "loss", "nll"}),
        dev=of_kind("dev", {"step", "pair", "nll"}),
        routing=tuple(line for line in routing if _ROUTING_FIELDS <= set(line)),
        bleu=of_kind("dev", {"step", "pair", "bleu"}),
    )


class LeftMixture(NamedTuple):
    """A mixture that a run left for another one."""

    last_step: int
    data: str  # fingerprint of the prepared data
    train_pairs: dict[str, int]  # by language pair


def read_mixtures(workdir: pathlib.Path) -> list[LeftMixture]:
    """Returns the mixtures that a run left, the first one first."""
    found = []
    for line in _read_lines(pathlib.Path(workdir) / MIXTURES):
        with contextlib.suppress(KeyError, TypeError, AttributeError):  # incomplete
            pairs: Counter[str] = Counter()
            for stream, info in line["old"]["pairs"].items():
                pairs[stream.partition("/")[0]] += info["pairs"]
            found.append(LeftMixture(line["step"], line["old"]["data"], dict(pairs)))
    return found


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the objects in a file; a line cut short, as a killed run leaves it, is skipped."""
    found = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(text))
            except ValueError:
                continue
    return [line for line in found if isinstance(line, dict)]


def _means(lines: Sequence[dict[str, Any]], key: str) -> dict[int, float]:
    values = defaultdict(list)
    for line in lines:
        values[line["step"]].append(line[key])
    return {step: sum(own) / len(own) for step, own in values.items()}


def _last(lines: Sequence[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    last = max((line["step"] for line in lines if line["step"] <= step), default=None)
    return [line for line in lines if line["step"] == last]


def expert_shares(line: Mapping[str, Any]) -> np.ndarray:
    """Returns shares_XE of a routing line: the share of each expert in a pair's dispatched choices.

    A row sums to 1; it is NaN for a pair without any.
    """
    load_XE = np.array(line["load"], np.float64)
    return _ratio(load_XE, load_XE.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class DropRates:
    """What each language pair lost to capacity, over a stack's MoE layers; NaN without tokens."""

    to_no_expert_X: np.ndarray  # fraction of its tokens that no expert processed
    over_capacity_X: np.ndarray  # fraction of its choices whose expert was full


def drop_rates(lines: Sequence[Mapping[str, Any]]) -> dict[str, DropRates]:
    """Returns the drop rates by stack, from the routing lines of one step."""
    found = {}
    for stack in dict.fromkeys(line["stack"] for line in lines):
        own = [line for line in lines if line["stack"] == stack]
        tokens_X, sent_XK, wanted_XK, over_XK = (
            np.add.reduce([line[key] for line in own], dtype=np.float64)
            for key in ("tokens", "sent", "wanted", "over_capacity")
        )
        found[stack] = DropRates(
            to_no_expert_X=_ratio(sent_XK[:, 0], tokens_X),
            over_capacity_X=_ratio(over_XK.sum(axis=1), wanted_XK.sum(axis=1)),
        )
    return found


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
