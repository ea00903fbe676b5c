"""gshard-prepare-data: turns a corpus recipe into the directory that training reads.

gshard-prepare-data --config FILE [--config.KEY=VALUE ...] --data_dir DIR
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Sequence

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.data.prepare import prepare
from gshard_mt.data.report import counts_table

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The directory to make; what is finished there stays.", required=True
)
cli_flags.define_config()


def main(argv: Sequence[str]) -> None:
    """Prepares the data of the config and prints the pairs of each language."""
    del argv
    config = cli_flags.read_config()
    data_dir = pathlib.Path(_DATA_DIR.value)
    manifest, is_there = prepare(config.data, data_dir)
    if is_there:
        print(f"{data_dir}: already prepared with these settings; nothing to do")
        return
    print(counts_table(manifest["pairs"]))
    print(f"{data_dir}: prepared; see {data_dir / 'report.md'}")


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
