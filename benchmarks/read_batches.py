"""Speed of reading training batches: from records on disk to packed rows, on one core.

python -m benchmarks.read_batches --config FILE --data_dir DIR [--batches N]
"""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import resource
import statistics
import sys
import time

from absl import flags

from benchmarks.machine import describe_machine
from gshard_mt.cli import flags as cli_flags
from gshard_mt.data.batches import TrainBatches, train_batches
from gshard_mt.data.prepared import open_prepared

_ROUNDS = 5

cli_flags.define_config()
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data, as written by gshard-prepare-data.", required=True
)
_BATCHES = flags.DEFINE_integer("batches", 200, "Batches to read in each of five rounds.")


def main() -> None:
    """Prints one row."""
    config, prepared = cli_flags.read_config(), open_prepared(pathlib.Path(_DATA_DIR.value))
    rows, number, before = config.train.batch_rows, _BATCHES.value, _peak_mebibytes()
    batches = train_batches(prepared, config.data, rows)
    _time_batches(batches, number)  # warms up the file system's cache
    rounds = [_time_batches(batches, number) for _ in range(_ROUNDS)]
    batches.close()
    tokens = sum(tokens for tokens, _, _ in rounds)
    row = {
        "benchmark": "read_batches",
        "pairs": len(prepared.language_pairs),
        "train_pairs": sum(prepared.train_pairs.values()),
        "batch_rows": rows,
        "batches": number,
        "target_tokens_per_second": statistics.median(n / wall for n, _, wall in rounds),
        "target_tokens_per_core_second": statistics.median(n / core for n, core, _ in rounds),
        "target_fill": tokens / (_ROUNDS * number * rows * config.data.target_length),
        "peak_mebibytes": _peak_mebibytes(),
        "mebibytes_before": before,  # Python and its packages
        **describe_machine(),
    }
    print(json.dumps(row), flush=True)


def _time_batches(batches: TrainBatches, number: int) -> tuple[int, float, float]:
    """Returns target tokens (EOS included), CPU seconds of all threads, and wall seconds."""
    core, wall, tokens = time.process_time(), time.perf_counter(), 0
    for _ in range(number):
        tokens += int((next(batches).target_segment_BT != 0).sum())
    return tokens, time.process_time() - core, time.perf_counter() - wall


def _peak_mebibytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


cli_flags.command(main)
