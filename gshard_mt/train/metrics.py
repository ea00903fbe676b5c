"""What a run reports while it trains: metrics.jsonl, TensorBoard, and lines for people."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

import jax
import optax

from gshard_mt.console import Bar, say
from gshard_mt.data.packing import Batch
from gshard_mt.errors import TrainingError
from gshard_mt.partitioning.hosts import is_writer
from gshard_mt.routing.counters import Counters
from gshard_mt.run.journal import METRICS, ROUTING, JsonLines, summarize
from gshard_mt.run.mirror import shown
from gshard_mt.run.programs import compile_clock
from gshard_mt.train.step import StepMetrics
from gshard_mt.train.trackers import Board, Tracker

_add = jax.jit(optax.tree.add)


class MetricsLog:
    """`metrics.jsonl`, `routing.jsonl`, TensorBoard and other trackers of a run directory.

    A write that fails, for example on a full disk, raises TrainingError.
    """

    def __init__(self, workdir: pathlib.Path, from_step: int, trackers: Sequence[Tracker] = ()):
        self._workdir = pathlib.Path(workdir)
        self._has_failed = False
        with self._failing_in_a_line():
            self._metrics = JsonLines(self._workdir / METRICS, from_step, is_writer())
            self._routing = JsonLines(self._workdir / ROUTING, from_step, is_writer())
            self._trackers = list(trackers)
            if is_writer():
                self._trackers.append(Board(self._workdir / "tensorboard", from_step))

    def write(self, line: dict) -> None:
        """Appends one object and its scalars; `split` and `pair` become the scalar's folder.

        Also flushes the scalars of earlier routing lines.
        """
        folder = "/".join(line[key] for key in ("split", "pair") if key in line)
        scalars = {
            f"{folder}/{key}": value
            for key, value in line.items()
            if key != "step" and isinstance(value, (int, float))
        }
        self._append(self._metrics, line, scalars)
        with self._failing_in_a_line():
            for tracker in self._trackers:
                tracker.flush()

    def write_routing(self, line: dict) -> None:
        """Appends one layer's routing counts, and its fractions over all language pairs."""
        folder = f"routing/{line['stack']}.{line['layer']}"
        scalars = {f"{folder}/{key}": value for key, value in summarize(line).items()}
        self._append(self._routing, line, scalars)

    def close(self) -> None:
        """Closes the files."""
        for file in (self._metrics, self._routing, *self._trackers):
            # Closing tries again to write what a full disk refused; that error was raised.
            with contextlib.suppress(OSError) if self._has_failed else contextlib.nullcontext():
                file.close()

    def _append(self, file: JsonLines, line: dict, scalars: Mapping[str, float]) -> None:
        with self._failing_in_a_line():
            file.write(line)
            for tracker in self._trackers:
                tracker.write(scalars, line["step"])

    @contextlib.contextmanager
    def _failing_in_a_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._has_failed = True
            raise TrainingError(
                f"{self._workdir}: can't write metrics ({error.strerror}); fix this, then the same "
                "command resumes from the last checkpoint"
            ) from error


class StepSums:
    """Adds up the metrics of steps until a line is due; only then fetches them from the devices.

    `step_flops` is what the model needs per step, `peak_flops` what all devices do per second at
    best; 0 if unknown.
    """

    def __init__(self, step_flops: float = 0.0, peak_flops: float = 0.0):
        self._step_flops, self._peak_flops = step_flops, peak_flops
        self._steps: list[StepMetrics] = []
        self._routing: dict[str, Counters] = {}
        self._clock = compile_clock()
        self._since, self._compiled = time.monotonic(), self._clock.seconds
        self._input_seconds = 0.0
        self.routing: dict[str, Counters] = {}  # of the last line

    def wait_for(self, batches: Iterator[Batch]) -> Batch:
        """Returns the next batch and adds the time it took to `input_seconds`."""
        since = time.monotonic()
        batch = next(batches)
        self._input_seconds += time.monotonic() - since
        return batch

    def add(self, metrics: StepMetrics) -> None:
        """Adds the metrics of one step, which may still be computed."""
        new = metrics.routing
        self._routing = _add(self._routing, new) if self._routing else new
        self._steps.append(metrics._replace(routing={}))

    def drain(self, step: int) -> dict:
        """Returns the line of metrics.jsonl for the steps added since the last one.

        Bad steps are only counted, as `skipped_steps`; without a good step the line is empty.

        `loss` (with label smoothing, without the auxiliary loss) and `nll` are nats per target
        token, `aux_loss` is the mean over MoE layers, `learning_rate` and `grad_norm` are of the
        last good step. `input_seconds` of the `seconds` were spent waiting for batches, though the
        devices may have been busy meanwhile. The `compile_seconds` of them are left out of
        `tokens_per_second` and of `mfu`, the model's FLOPs over what the devices do at their peak,
        which needs a known peak.
        """
        all_steps, self.routing = jax.device_get((self._steps, self._routing))
        self._routing = {}
        since, compiled, self._steps = self._since, self._compiled, []
        self.skip_time()
        seconds, compile_seconds = self._since - since, self._compiled - compiled
        stepping = max(seconds - compile_seconds, 1e-9)
        input_seconds, self._input_seconds = self._input_seconds, 0.0
        steps = [m for m in all_steps if not (m.check.is_bad or m.check.is_halted)]
        if not steps:
            return {}
        tokens = sum(float(m.token_loss.num_tokens) for m in steps)
        num_layers = sum(len(counters.num_tokens_X) for counters in self.routing.values())
        line = {
            "step": step,
            "split": "train",
            "loss": sum(float(m.token_loss.smoothed) for m in steps) / max(tokens, 1.0),
            "nll": sum(float(m.token_loss.nll) for m in steps) / max(tokens, 1.0),
            "aux_loss": sum(float(m.aux_loss) for m in steps) / len(steps) / max(num_layers, 1),
            "learning_rate": float(steps[-1].learning_rate),
            "grad_norm": float(steps[-1].grad_norm),
            "source_tokens": sum(int(m.source_tokens) for m in steps),
            "target_tokens": int(tokens),
            "tokens_per_second": tokens / stepping,
            "moe_dropped_fraction": 0.0,
            "seconds": seconds,
            "input_seconds": input_seconds,
            "compile_seconds": compile_seconds,
        }
        if len(steps) < len(all_steps):
            line["skipped_steps"] = len(all_steps) - len(steps)
        if self._peak_flops:
            line["mfu"] = self._step_flops * len(steps) / stepping / self._peak_flops
        if self.routing:
            routed = sum(int(c.num_tokens_X.sum()) for c in self.routing.values())
            lost = sum(int(c.num_dispatched_XK[..., 0].sum()) for c in self.routing.values())
            line["moe_dropped_fraction"] = lost / max(routed, 1)
        return line

    def skip_time(self) -> None:
        """Excludes the time since the last line (evaluation, saving) from tokens per second."""
        self._since, self._compiled = time.monotonic(), self._clock.seconds


def progress_bar(start: int, end: int) -> Bar:
    """Steps done and remaining, with the time left, on standard error of the first process."""
    return Bar("train", "step", end, initial=start, mininterval=1.0, disable=not is_writer())


def log_line(line: str) -> None:
    """Says a line, in the first process only."""
    if is_writer():
        say(shown(line))
