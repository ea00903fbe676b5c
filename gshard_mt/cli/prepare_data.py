"""gshard-prepare-data: cleans and tokenizes the corpora of a recipe for training.

Usage:   gshard-prepare-data --config FILE|NAME [--config.KEY=VALUE ...] --data_dir DIR [--dry_run]
             [--dask_scheduler ADDRESS | --runner RUNNER [--beam_options OPTIONS]]
Example: gshard-prepare-data --config small --config.data.recipe=recipe.toml --data_dir data

The recipe is config.data.recipe. If DIR is already prepared with the same settings, nothing is
done, even if the text behind the recipe has changed, which is said; an interrupted command starts
again.
"""
# SPDX-License-Identifier: Apache-2.0

import logging
import sys
from typing import TYPE_CHECKING

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import BucketPath, open_path

if TYPE_CHECKING:
    from gshard_mt.data.prepare.job import Pipeline

_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Directory to create, local or in a bucket (gs://, s3://); finished work in it is reused.",
    required=True,
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "Print what each filter would drop from a sample of each corpus, with samples; write nothing.",
)
_DASK_SCHEDULER = flags.DEFINE_string(
    "dask_scheduler",
    "",
    "Address of the scheduler of a Dask cluster, whose workers do the work: tcp://host:8786. "
    "Without it, processes of this machine do. The output is the same.",
)
_RUNNER = flags.DEFINE_string(
    "runner",
    "",
    "Apache Beam runner, which does the work: DirectRunner, FlinkRunner, SparkRunner or "
    "DataflowRunner. The output is the same.",
)
_BEAM_OPTIONS = flags.DEFINE_string(
    "beam_options", "", 'Apache Beam options, e.g. "--flink_master=host:8081 --parallelism=64".'
)
cli_flags.define_config()


def main() -> None:
    """Prepares the data of the config and prints the number of pairs of each language."""
    data_dir = open_path(_DATA_DIR.value)
    if isinstance(data_dir, BucketPath) and (_DASK_SCHEDULER.value or _RUNNER.value):
        raise ConfigError(
            f"--data_dir: found {data_dir} with --{'runner' if _RUNNER.value else 'dask_scheduler'}"
            "; accepted: a folder that all its workers share"
        )
    config = cli_flags.read_config()
    if _DRY_RUN.value:
        from gshard_mt.data.prepare.dry_run import dry_run
        from gshard_mt.data.prepare.prepare import read_recipe

        for line in dry_run(config.data, read_recipe(config.data)):
            print(line, flush=True)
        return
    from gshard_mt.data.prepare.changes import describe_changes
    from gshard_mt.data.prepare.prepare import prepare
    from gshard_mt.data.prepare.summary import counts_table

    manifest, is_there = prepare(config.data, data_dir, _pipeline())
    if is_there:
        print(f"{data_dir}: already prepared with these settings; nothing to do")
        if changes := describe_changes(config.data, data_dir):
            print(changes, file=sys.stderr)
        return
    print(counts_table(manifest["pairs"]))
    print(f"{data_dir}: prepared; see {data_dir / 'report.md'}")


def _pipeline() -> "Pipeline":
    if not _RUNNER.value:
        if _BEAM_OPTIONS.value:
            raise ConfigError("--beam_options: found without --runner; accepted: with one")
        if _DASK_SCHEDULER.value:
            return _dask_pipeline(_DASK_SCHEDULER.value)
        from gshard_mt.data.prepare.local import run_locally

        return run_locally
    if _DASK_SCHEDULER.value:
        raise ConfigError("--dask_scheduler: found with --runner; accepted: one of them")
    logging.disable(logging.WARNING)  # Beam warns about optional parts that are not installed
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


def _dask_pipeline(address: str) -> "Pipeline":
    try:
        from gshard_mt.data.prepare.dask import dask_pipeline
    except ModuleNotFoundError as error:
        if error.name != "distributed":
            raise
        raise ConfigError(
            "--dask_scheduler: Dask is not installed; pip install 'gshard-mt[dask]', or leave "
            "--dask_scheduler out"
        ) from None
    return dask_pipeline(address)


entry = cli_flags.command(main)
