"""What a run writes while it trains: metrics.jsonl, TensorBoard, and the lines of the terminal."""
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import time

import jax
import tensorboardX
import tqdm

from gshard_mt.train.step import StepMetrics


class MetricsLog:
    """`metrics.jsonl` and TensorBoard of a run directory, continued from a step.

    Lines of later steps, left by a run that was killed after its last checkpoint, are dropped.
    """

    def __init__(self, workdir: pathlib.Path, from_step: int):
        self._path = pathlib.Path(workdir) / "metrics.jsonl"
        kept = []
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= from_step:
                        kept.append(line + "\n")
                except (ValueError, KeyError):  # the line that was being written
                    continue
        draft = self._path.with_suffix(".jsonl.tmp")
        draft.write_text("".join(kept), encoding="utf-8")
        os.replace(draft, self._path)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(
            str(self._path.parent / "tensorboard"), purge_step=from_step + 1
        )

    def write(self, line: dict) -> None:
        """Appends one object and its scalars; `split` and `pair` become the scalar's folder."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        folder = "/".join(line[key] for key in ("split", "pair") if key in line)
        for key, value in line.items():
            if key != "step" and isinstance(value, (int, float)):
                self._board.add_scalar(f"{folder}/{key}", value, line["step"])

    def close(self) -> None:
        self._file.close()
        self._board.close()


class StepSums:
    """Adds up what steps return until a line is due; fetches it from the device only then."""

    def __init__(self):
        self._steps: list[StepMetrics] = []
        self._since = time.monotonic()

    def add(self, metrics: StepMetrics) -> None:
        """Takes the metrics of one step, still on their way."""
        self._steps.append(metrics)

    def drain(self, step: int, num_moe_layers: int) -> dict:
        """Returns the line of metrics.jsonl for the steps added since the last one.

        `loss` (with label smoothing, without the auxiliary loss) and `nll` are nats per target
        token, `aux_loss` is the mean over MoE layers, `learning_rate` and `grad_norm` are of the
        last step.
        """
        steps = jax.device_get(self._steps)
        now = time.monotonic()
        seconds, self._since, self._steps = now - self._since, now, []
        tokens = sum(float(m.token_loss.num_tokens) for m in steps)
        line = {
            "step": step,
            "split": "train",
            "loss": sum(float(m.token_loss.smoothed) for m in steps) / max(tokens, 1.0),
            "nll": sum(float(m.token_loss.nll) for m in steps) / max(tokens, 1.0),
            "aux_loss": sum(float(m.aux_loss) for m in steps) / len(steps) / max(num_moe_layers, 1),
            "learning_rate": float(steps[-1].learning_rate),
            "grad_norm": float(steps[-1].grad_norm),
            "source_tokens": sum(int(m.source_tokens) for m in steps),
            "target_tokens": int(tokens),
            "tokens_per_second": tokens / seconds,
            "moe_dropped_fraction": 0.0,
            "seconds": seconds,
        }
        if num_moe_layers:
            routed = sum(int(m.routing.num_tokens) for m in steps)
            lost = sum(int(m.routing.num_to_0) for m in steps)
            line["moe_dropped_fraction"] = lost / max(routed, 1)
        return line

    def skip_time(self) -> None:
        """Leaves what happened since the last line (evaluation, saving) out of tokens/s."""
        self._since = time.monotonic()


def progress_bar(start: int, end: int) -> tqdm.tqdm:
    """Steps done and to do, with time left, on standard error."""
    return tqdm.tqdm(
        initial=start, total=end, desc="train", unit="step", dynamic_ncols=True, mininterval=1.0
    )
