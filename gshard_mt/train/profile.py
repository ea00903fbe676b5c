"""The profiler: a trace of some steps, to be looked at in TensorBoard or Perfetto."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re
from collections.abc import Callable, Iterator

import jax

from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.hosts import is_writer


def parse_steps(text: str, config: Config) -> range:
    """Returns the steps of `FIRST:LAST`, both counted in; none of empty text.

    Raises ConfigError for what is no such range or leads out of the run.
    """
    if not text:
        return range(0)
    num_steps = config.train.num_steps
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last <= num_steps:
        raise ConfigError(
            f"--profile_steps: found {text}, accepted: FIRST:LAST, steps from 1 to "
            f"{num_steps} (train.num_steps), such as 10:15"
        )
    return range(first, last + 1)


def trace_steps(train_step: Callable, folder: pathlib.Path, steps: range, start: int) -> Callable:
    """Returns `train_step`, a trace of whose `steps` the first process leaves in the folder.

    `start` is the number of the step before the first call. What a run did before it went on is
    not traced again.
    """
    left = range(max(steps.start, start + 1), steps.stop)
    if not left or not is_writer():
        return train_step
    numbers: Iterator[int] = iter(range(start + 1, left.stop + 1))

    def step(*arguments):
        number = next(numbers, left.stop)
        if number not in left:
            return train_step(*arguments)
        if number == left.start:
            jax.block_until_ready(arguments)  # what earlier steps still do isn't in it
            jax.profiler.start_trace(folder)
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            results = train_step(*arguments)
        if number == left[-1]:
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
        return results

    return step
