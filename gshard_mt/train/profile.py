"""The profiler: a trace of some steps, for TensorBoard or Perfetto."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Callable, Iterator

import jax

from gshard_mt.partitioning.hosts import is_writer


def trace_steps(train_step: Callable, folder: pathlib.Path, steps: range, start: int) -> Callable:
    """Returns `train_step`; the first process writes a trace of `steps` to the folder.

    `start` is the number of the step before the first call. Steps that a resumed run took before
    are not traced.
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
            jax.block_until_ready(arguments)  # leaves earlier steps out of the trace
            jax.profiler.start_trace(folder)
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            results = train_step(*arguments)
        if number == left[-1]:
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
        return results

    return step
