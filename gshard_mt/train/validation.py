"""Dev figures of a run: the nll of every language, BLEU of a sample, how long none was better."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gshard_mt.config.records import Config
from gshard_mt.data.batches import split_batches
from gshard_mt.data.prepared import Prepared
from gshard_mt.partitioning.hosts import BatchRows, make_global

# From parameters to the BLEU of each pair's sample. Translating is not for this floor.
DevBleu = Callable[[Any], Mapping[str, float]]


class Dev(NamedTuple):
    """What dev figures are made with."""

    config: Config
    prepared: Prepared
    rows: BatchRows
    step: Callable  # of `make_dev_step`
    bleu: DevBleu | None

    def lines(self, params: Any, with_nll: bool, with_bleu: bool) -> Iterator[dict[str, Any]]:
        """Yields an object a pair for each figure asked for, as metrics.jsonl has it."""
        if with_nll:
            yield from self._nll_lines(params)
        if with_bleu and self.bleu:
            for pair, bleu in self.bleu(params).items():
                yield {"split": "dev", "pair": pair, "bleu": bleu}

    def _nll_lines(self, params: Any) -> Iterator[dict[str, Any]]:
        batches = split_batches(
            self.prepared, "dev", self.config.data, self.rows.num_rows, self.rows.own
        )
        losses = [self.step(params, make_global(batch, self.rows)) for batch in batches]
        sums = np.zeros((len(self.prepared.language_pairs), 2))
        for loss in losses:
            sums += np.stack([loss.nll_X, loss.num_tokens_X], axis=1)
        for pair, (nll, num_tokens) in zip(
            self.prepared.language_pairs, sums.tolist(), strict=True
        ):
            if num_tokens:
                tokens = int(num_tokens)
                yield {"split": "dev", "pair": pair, "nll": nll / tokens, "target_tokens": tokens}


def mean_figures(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the means over languages of `nll` and `bleu`, those that the lines have."""
    found = {}
    for name in ("nll", "bleu"):
        values = [line[name] for line in lines if name in line]
        if values:
            found[name] = sum(values) / len(values)
    return found


class Patience(NamedTuple):
    """How long nothing better was found; saved with a checkpoint."""

    best_by: str  # the figure: nll or bleu
    best: float | None = None  # the best so far
    since: int = 0  # how many came after it

    def resumed(self, saved: Sequence[Any]) -> "Patience":
        """Returns the patience that was saved as a list; one with another figure says nothing."""
        return Patience(*saved) if saved[:1] == [self.best_by] else self

    def after(self, figures: Mapping[str, float]) -> "Patience":
        """Returns the patience after dev figures, of which one may be what the best is found by."""
        figure = figures.get(self.best_by)
        if figure is None:
            return self
        is_better = self.best is None or (
            figure > self.best if self.best_by == "bleu" else figure < self.best
        )
        if is_better:
            return self._replace(best=figure, since=0)
        return self._replace(since=self.since + 1)

    def is_over(self, stop_after: int) -> bool:
        """Says whether so many figures in a row were no better; never for 0."""
        return 0 < stop_after <= self.since
