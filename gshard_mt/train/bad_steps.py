"""Bad steps: loss spikes and losses or gradients that are not finite; found and reported."""
# SPDX-License-Identifier: Apache-2.0

import collections
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gshard_mt.data.batches import TrainBatches
from gshard_mt.documents import write_json
from gshard_mt.partitioning.hosts import is_writer

WINDOW = 128  # steps: the reach of the running statistics, and how many precede the first spike


class LossStatistics(NamedTuple):
    """Running statistics of the loss: float32 scalars, part of the training state."""

    count: Any  # good steps, at most `WINDOW`
    mean: Any  # nats per token; an exponential moving average after `WINDOW` steps
    variance: Any
    is_halted: Any  # a bad step occurred and `bad_steps=stop`: later steps change nothing

    @classmethod
    def initial(cls) -> "LossStatistics":
        """Returns the statistics before the first step."""
        return cls(*jnp.zeros((4,), jnp.float32))

    @classmethod
    def from_saved(cls, numbers: Sequence[float]) -> "LossStatistics":
        """Returns what `to_saved` returned; the run that resumes is not halted."""
        return cls(*map(np.float32, (*numbers, 0)))

    def to_saved(self) -> list[float]:
        """Returns the count, mean and variance for a checkpoint."""
        return [float(number) for number in jax.device_get(self[:3])]


class StepCheck(NamedTuple):
    """The outcome for one step. It was good if all three booleans are false."""

    is_not_finite: Any
    is_spike: Any
    is_halted: Any  # an earlier step was bad and `bad_steps=stop`
    loss: Any  # nats per token
    limit: Any  # a loss above it is a spike; infinite until `WINDOW` good steps were seen

    @property
    def is_bad(self) -> Any:
        return self.is_not_finite | self.is_spike


def check_step(
    statistics: LossStatistics, loss: jax.Array, grad_norm: jax.Array, spike_sigmas: float
) -> StepCheck:
    """Checks a step by its loss per token and its gradient norm; 0 sigmas disables spikes."""
    is_finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    limit = statistics.mean + spike_sigmas * jnp.sqrt(statistics.variance)
    has_limit = (statistics.count >= WINDOW) & (spike_sigmas > 0)
    limit = jnp.where(has_limit, limit, jnp.inf)
    is_spike = is_finite & (loss > limit)
    return StepCheck(~is_finite, is_spike, statistics.is_halted > 0, loss, limit)


def update(statistics: LossStatistics, check: StepCheck, halts: bool) -> LossStatistics:
    """Returns the statistics after a step: running mean and variance (West 1979)."""
    count = jnp.minimum(statistics.count + 1, WINDOW)
    weight = 1 / count
    delta = check.loss - statistics.mean
    mean = statistics.mean + weight * delta
    variance = (1 - weight) * (statistics.variance + weight * jnp.square(delta))
    is_ignored = check.is_bad | check.is_halted
    new = LossStatistics(count, mean, variance, statistics.is_halted)
    new = jax.tree.map(lambda new, old: jnp.where(is_ignored, old, new), new, statistics)
    if halts:
        is_halted = jnp.maximum(statistics.is_halted, check.is_bad.astype(jnp.float32))
        new = new._replace(is_halted=is_halted)
    return new


class BadStep(NamedTuple):
    """A step that changed nothing, and the position of its batch in the data."""

    step: int
    position: dict[str, Any]  # of `TrainBatches.get_state` before the batch
    check: StepCheck

    @property
    def reason(self) -> str:
        if self.check.is_spike:
            return f"loss {self.check.loss:.4f} is a spike (above {self.check.limit:.4f})"
        return f"loss {self.check.loss:.4f}, or its gradient, is not finite"


class BadStepMonitor:
    """Detects bad steps one step late, so that the devices always have the next step queued."""

    def __init__(self) -> None:
        self._pending: collections.deque[BadStep] = collections.deque()

    def add(self, step: int, position: dict[str, Any], check: StepCheck) -> None:
        """Queues a step whose check may still be computed on the devices."""
        self._pending.append(BadStep(step, position, check))

    def find_bad(self, num_pending: int) -> list[BadStep]:
        """Returns the bad steps among all queued but the last `num_pending`, which stay queued."""
        found = []
        while len(self._pending) > num_pending:
            step = self._pending.popleft()
            step = step._replace(check=jax.device_get(step.check))
            if step.check.is_bad and not step.check.is_halted:
                found.append(step)
        return found


def record_bad_step(workdir: pathlib.Path, bad: BadStep, batches: TrainBatches) -> str:
    """Writes `bad_steps/STEP.json`; returns a line with the reason, languages and that file.

    The file lists the batch's records by language pair: their indices in the prepared data.
    """
    records: dict[str, list[int]] = {}
    for pair, record in batches.list_records(bad.position):
        records.setdefault(pair, []).append(record)
    path = pathlib.Path(workdir) / "bad_steps" / f"{bad.step}.json"
    if is_writer():
        path.parent.mkdir(exist_ok=True)
        content = {
            "step": bad.step,
            "reason": bad.reason,
            "loss": float(bad.check.loss),
            "limit": float(bad.check.limit),
            "place": bad.position,
            "records": records,
        }
        write_json(path, content, indent=1)
    counts = ", ".join(f"{pair} {len(ids)}" for pair, ids in sorted(records.items()))
    return f"step {bad.step}: {bad.reason}; sentences: {counts}; their ids are in {path}"
