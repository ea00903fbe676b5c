"""gshard-train: trains a model on prepared data, or resumes a run that was stopped.

Usage:   gshard-train --config FILE|NAME [--config.KEY=VALUE ...] --data_dir DIR --workdir RUN
             [--init_from RUN[@STEP]|EXPORT]
Example: gshard-train --config small --config.train.num_steps=5000 --data_dir data --workdir run

The same command resumes the run from its last checkpoint. SIGTERM and ctrl-C save a checkpoint
first and end with exit status 143. For several hosts see docs/many_hosts.md.
"""
# SPDX-License-Identifier: Apache-2.0

import functools
import pathlib
import re
import signal
import sys
from typing import TYPE_CHECKING

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup import processes
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.cli.startup.start import start_jax
from gshard_mt.config.checks import check
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import open_path

if TYPE_CHECKING:
    from gshard_mt.data.prepared import Prepared
    from gshard_mt.evaluate.dev_bleu import DevTranslator
    from gshard_mt.run.directory import Run

STOPPED = 128 + signal.SIGTERM  # exit status, also after ctrl-C

cli_flags.define_config()
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data, as written by gshard-prepare-data.", required=True
)
_WORKDIR = cli_flags.define_workdir(
    "Run directory to create; if it holds an unfinished run, the run is resumed."
)
_INIT_FROM = flags.DEFINE_string(
    "init_from",
    "",
    "RUN, RUN@STEP, RUN@best or RUN@average: another run whose parameters a new one begins with, "
    "or a folder of gshard-export. "
    "Everything else is new: optimizer, schedule, order of the data (docs/fine_tuning.md).",
)
_CHANGE_MIXTURE = flags.DEFINE_bool(
    "change_mixture",
    False,
    "Resume with other prepared data (made with the same tokenizer) or with another "
    "data.temperature or other train.stages. Languages that stay continue where they were, new "
    "ones start from their beginning.",
)
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", "", "FIRST:LAST, e.g. 10:15: write a trace of these steps to WORKDIR/profile."
)
_TRACKER = flags.DEFINE_enum(
    "tracker",
    "",
    ["", "trackio", "wandb"],
    "Also show the run in Trackio or Weights & Biases (docs/logs.md); needs the extra track.",
)


def main() -> None:
    """Refuses bad input before JAX is imported, then trains."""
    from gshard_mt.data.prepare.settings import settle_data
    from gshard_mt.data.prepared import open_prepared
    from gshard_mt.run.directory import check_workdir, read_run
    from gshard_mt.run.mirror import open_folder

    config, given = cli_flags.read_values()
    process = processes.read_process_info()
    profile_steps = parse_steps(_PROFILE_STEPS.value, config)
    if _TRACKER.value:
        from gshard_mt.train.trackers import check_installed

        check_installed(_TRACKER.value)
    workdir = open_folder(_WORKDIR.value)
    check_workdir(workdir)
    prepared = open_prepared(open_path(_DATA_DIR.value))
    begun = read_run(workdir) if (workdir / "config.json").exists() else None
    settle_data(config, given, prepared, begun and begun.config)
    check(config)

    is_kept = keep_buffers(largest_weight(config))  # before JAX: it may exec
    start_jax(workdir, config, functools.partial(processes.join, process), is_training=True)
    from gshard_mt.partitioning.hosts import is_writer
    from gshard_mt.partitioning.mesh import build_mesh
    from gshard_mt.train.description import describe_missing
    from gshard_mt.train.loop import train
    from gshard_mt.train.metrics import log_line
    from gshard_mt.train.training import Options

    mesh = build_mesh(*config.mesh.shape())
    check(config, mesh.shape)  # before a translator of such a model is made
    dev = _dev_translator(config, prepared)
    if is_kept:
        log_line("memory      kept between steps (--nokeep_buffers frees it)")
    notes = [*describe_missing(prepared)]
    if is_writer():
        notes += [f"held out    {line}" for line in _overlap(prepared, workdir, begun)]
    options = Options(
        _CHANGE_MIXTURE.value, profile_steps, dev, _INIT_FROM.value, _TRACKER.value, tuple(notes)
    )
    if not train(config, prepared, workdir, mesh, options):
        sys.exit(STOPPED)


def _dev_translator(config: Config, prepared: "Prepared") -> "DevTranslator | None":
    """Returns what translates dev sentences, if the config asks for it and there are any."""
    from gshard_mt.partitioning.mesh import build_mesh

    has_dev = any(num.get("train") and num.get("dev") for num in prepared.num_examples.values())
    shows = config.train.sample_translations and has_dev
    if not (config.train.bleu_every or shows):
        return None
    from gshard_mt.evaluate.dev_bleu import DevTranslator

    return DevTranslator(config, prepared, build_mesh(*config.mesh.decoding_shape()))


def _overlap(prepared: "Prepared", workdir: pathlib.Path, begun: "Run | None") -> list[str]:
    """Returns what to say of held-out text that the model was trained on before it got its data."""
    from gshard_mt.evaluate.overlap import describe_overlap
    from gshard_mt.run.directory import saved_steps
    from gshard_mt.run.exported import read_trained
    from gshard_mt.run.mirror import open_folder
    from gshard_mt.train.initialization import split_origin

    if begun and saved_steps(workdir):
        return describe_overlap(prepared, begun, workdir) if _CHANGE_MIXTURE.value else []
    if not _INIT_FROM.value:
        return []
    folder = open_folder(split_origin(_INIT_FROM.value)[0])
    return describe_overlap(prepared, read_trained(folder), folder)


def parse_steps(text: str, config: Config) -> range:
    """Returns the steps of `FIRST:LAST`, both included; none for empty text. Raises ConfigError."""
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


entry = cli_flags.command(main)
