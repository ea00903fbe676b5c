"""gshard-prepare-data: turns a corpus recipe into the directory that training reads.

gshard-prepare-data --config FILE [--config.KEY=VALUE ...] --data_dir DIR
    [--runner=DirectRunner|FlinkRunner|SparkRunner|DataflowRunner] [--beam_options="--a=b --c=d"]
"""
# SPDX-License-Identifier: Apache-2.0

import logging
import pathlib
from collections.abc import Sequence

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.data.prepare.job import Pipeline
from gshard_mt.data.prepare.local import run_locally
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepare.summary import counts_table
from gshard_mt.errors import ConfigError

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The directory to make; what is finished there stays.", required=True
)
_RUNNER = flags.DEFINE_string(
    "runner",
    "",
    "A runner of Apache Beam: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner; "
    "empty: processes of this machine. The same comes out.",
)
_BEAM_OPTIONS = flags.DEFINE_string(
    "beam_options", "", 'Options of Apache Beam, as "--flink_master=host:8081 --parallelism=64".'
)
cli_flags.define_config()


def main(argv: Sequence[str]) -> None:
    """Prepares the data of the config and prints the pairs of each language."""
    del argv
    config = cli_flags.read_config()
    data_dir = pathlib.Path(_DATA_DIR.value)
    manifest, is_there = prepare(config.data, data_dir, _pipeline())
    if is_there:
        print(f"{data_dir}: already prepared with these settings; nothing to do")
        return
    print(counts_table(manifest["pairs"]))
    print(f"{data_dir}: prepared; see {data_dir / 'report.md'}")


def _pipeline() -> Pipeline:
    if not _RUNNER.value:
        if _BEAM_OPTIONS.value:
            raise ConfigError("--beam_options: found without --runner; accepted: with one")
        return run_locally
    logging.disable(logging.WARNING)  # Beam tells of parts of itself that are not installed
    try:
        from gshard_mt.data.prepare.beam.pipeline import beam_pipeline
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "apache_beam":
            raise
        raise ConfigError(
            f"--runner={_RUNNER.value}: Apache Beam is not installed; "
            "pip install 'gshard-mt[beam]', or leave --runner out"
        ) from None
    finally:
        logging.disable(logging.NOTSET)
    return beam_pipeline(_RUNNER.value, _BEAM_OPTIONS.value)


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
