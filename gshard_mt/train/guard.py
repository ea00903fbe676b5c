"""Bad steps of a run: found as soon as a step is known, written down, told of."""
# SPDX-License-Identifier: Apache-2.0

import collections
import pathlib
from typing import Any, NamedTuple

import jax

from gshard_mt.data.batches import TrainBatches
from gshard_mt.documents import write_json
from gshard_mt.partitioning.hosts import is_writer
from gshard_mt.train.watch import Verdict


class BadStep(NamedTuple):
    """A step that changed nothing, and where its batch is in the data."""

    step: int
    reason: str  # `loss nan`
    place: dict[str, Any]  # what `TrainBatches.get_state` gave before it
    verdict: Verdict


class Guard:
    """Looks at every step's verdict one step late, so that the devices have the next one to do."""

    def __init__(self) -> None:
        self._open: collections.deque[tuple[int, dict[str, Any], Verdict]] = collections.deque()

    def add(self, step: int, place: dict[str, Any], verdict: Verdict) -> None:
        """Takes the verdict of a step, still on its way, and the place before its batch."""
        self._open.append((step, place, verdict))

    def find_bad(self, num_open: int = 0) -> list[BadStep]:
        """Returns the bad steps among all but the last `num_open`, which stay open."""
        found = []
        while len(self._open) > num_open:
            step, place, on_device = self._open.popleft()
            verdict = jax.device_get(on_device)
            if verdict.is_bad and not verdict.is_halted:
                found.append(BadStep(step, _explain(verdict), place, verdict))
        return found


def write_bad_step(workdir: pathlib.Path, bad: BadStep, batches: TrainBatches) -> str:
    """Writes `bad_steps/STEP.json`; returns a line: what it was, in which languages, and the file.

    The file has the records of the batch by language pair: their `id` in the prepared data.
    """
    records: dict[str, list[int]] = {}
    for pair, record in batches.list_records(bad.place):
        records.setdefault(pair, []).append(record)
    path = pathlib.Path(workdir) / "bad_steps" / f"{bad.step}.json"
    if is_writer():
        path.parent.mkdir(exist_ok=True)
        content = {
            "step": bad.step,
            "reason": bad.reason,
            "loss": float(bad.verdict.loss),
            "limit": float(bad.verdict.limit),
            "place": bad.place,
            "records": records,
        }
        write_json(path, content, indent=1)
    counts = ", ".join(f"{pair} {len(ids)}" for pair, ids in sorted(records.items()))
    return f"step {bad.step}: {bad.reason}; sentences: {counts}; their ids are in {path}"


def _explain(verdict: Verdict) -> str:
    if verdict.is_spike:
        return f"loss {verdict.loss:.4f} is a spike (more than {verdict.limit:.4f})"
    return f"loss {verdict.loss:.4f}, or its gradient, is no finite number"
