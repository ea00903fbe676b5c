"""Dev metrics: nll of every language pair, BLEU of a sample, and early stopping by either."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from gshard_mt.config.records import Config
from gshard_mt.data.batches import split_batches
from gshard_mt.data.prepared import Prepared
from gshard_mt.partitioning.hosts import BatchRows, make_global


class DevTranslations(Protocol):
    """What translates dev sentences: `DevTranslator`. This room may not import `decode`."""

    def bleu(self, params: Any) -> Mapping[str, float]:
        """Returns the BLEU of each language pair's sample."""
        ...

    def show(self, params: Any) -> Sequence[str]:
        """Returns lines about some translations."""
        ...


class Validation(NamedTuple):
    """Everything needed to compute dev metrics."""

    config: Config
    prepared: Prepared
    rows: BatchRows
    dev_step: Callable  # of `make_dev_step`
    translations: DevTranslations | None

    def lines(self, params: Any, with_nll: bool, with_bleu: bool) -> Iterator[dict[str, Any]]:
        """Yields one object of metrics.jsonl per language pair and metric."""
        if with_nll:
            yield from self._nll_lines(params)
        if with_bleu and self.translations:
            for pair, bleu in self.translations.bleu(params).items():
                yield {"split": "dev", "pair": pair, "bleu": bleu}

    def _nll_lines(self, params: Any) -> Iterator[dict[str, Any]]:
        batches = split_batches(
            self.prepared, "dev", self.config.data, self.rows.num_rows, self.rows.own
        )
        losses = [self.dev_step(params, make_global(batch, self.rows)) for batch in batches]
        pairs = self.prepared.language_pairs
        sums = np.zeros((len(pairs), 2))
        for loss in losses:
            sums += np.stack([loss.nll_X, loss.num_tokens_X], axis=1)
        for pair, (nll, num_tokens) in zip(pairs, sums.tolist(), strict=True):
            if num_tokens:
                tokens = int(num_tokens)
                yield {"split": "dev", "pair": pair, "nll": nll / tokens, "target_tokens": tokens}


def mean_metrics(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the means of `nll` and `bleu` over the language pairs that have them."""
    means = {}
    for name in ("nll", "bleu"):
        values = [line[name] for line in lines if name in line]
        if values:
            means[name] = sum(values) / len(values)
    return means


class EarlyStopping(NamedTuple):
    """Counts the evaluations since the best value; saved with a checkpoint."""

    best_by: str  # the metric: nll or bleu
    best: float | None = None
    since: int = 0  # evaluations since then

    def resumed(self, saved: Sequence[Any]) -> "EarlyStopping":
        """Returns what was saved as a list; begins again if that was for another metric."""
        return EarlyStopping(*saved) if saved[:1] == [self.best_by] else self

    def after(self, metrics: Mapping[str, float]) -> "EarlyStopping":
        """Returns the state after an evaluation, unchanged if it lacks the metric."""
        value = metrics.get(self.best_by)
        if value is None:
            return self
        sign = 1 if self.best_by == "bleu" else -1
        if self.best is None or sign * value > sign * self.best:
            return self._replace(best=value, since=0)
        return self._replace(since=self.since + 1)

    def is_over(self, stop_after: int) -> bool:
        """Returns whether `stop_after` evaluations in a row were no better; 0 never stops."""
        return 0 < stop_after <= self.since
