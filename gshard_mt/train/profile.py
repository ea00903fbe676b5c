"""The profiler: a trace of some steps, for TensorBoard or Perfetto, and a table of its times."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Callable, Iterator

import jax

from gshard_mt.documents import write_json
from gshard_mt.partitioning.hosts import is_writer
from gshard_mt.train.breakdown import STEP, break_down, first_step, read_events, read_program
from gshard_mt.train.metrics import log_line

TABLE = "step_time.json"


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
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # events of Python calls would slow the steps
            jax.profiler.start_trace(folder, profiler_options=options)
        with jax.profiler.StepTraceAnnotation(STEP, step_num=number):
            results = train_step(*arguments)
        if number == left[-1]:
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
            text = program_text(train_step, *results[:1], *arguments[1:])
            for line in summarize(folder, text, left):
                log_line(line)
        return results

    return step


def program_text(step: Callable, *arguments) -> str:
    """Returns the HLO text of a jitted function that has run, without compiling it again."""
    return step.lower(*arguments).compile().as_text()


def summarize(folder: pathlib.Path, program: str, steps: range) -> list[str]:
    """Writes the times of the folder's newest trace beside it, and returns them as a table.

    Times are of one step, on average, and of one device; `program` is the HLO text of the steps.
    """
    trace = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    profile = jax.profiler.ProfileData.from_file(str(trace))
    events = read_events(profile, read_program(program))
    lines = [f"profile     steps {steps[0]} to {steps[-1]}"]
    if not events:
        return [f"{lines[0]}: no operation of a device is in the trace ({trace})"]
    nanoseconds = break_down(events, first_step(profile))
    total = sum(nanoseconds.values())
    times = {
        kind: {"ms": value / len(steps) / 1e6, "share": value / total}
        for kind, value in nanoseconds.items()
    }
    step_ms = total / len(steps) / 1e6
    found = {"steps": [steps[0], steps[-1]], "step_ms": step_ms, "kinds": times}
    path = trace.with_name(TABLE)
    write_json(path, found, indent=2)
    lines[0] += f", {step_ms:,.1f} ms each ({path})"
    for kind, time in times.items():
        lines.append(f"  {kind:<10}{time['ms']:>10,.1f} ms {time['share']:>5.0%}")
    return lines
