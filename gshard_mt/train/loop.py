"""The training loop: from prepared data and a config to checkpoints and metrics."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from jax.sharding import Mesh

from gshard_mt.config.checks import check
from gshard_mt.config.records import Config
from gshard_mt.data.prepared import Prepared
from gshard_mt.train.training import Options, Training


def train(
    config: Config,
    prepared: Prepared,
    workdir: pathlib.Path,
    mesh: Mesh,
    options: Options = Options(),
) -> bool:
    """Trains to `train.num_steps` or an early stop, resuming from the last checkpoint if any.

    Returns False if a signal stopped it, with a checkpoint, before that. Raises ConfigError or
    CheckpointError before anything is computed if the run directory is another experiment's or the
    mesh does not fit, TrainingError at a bad step or where a save fails. All processes call it;
    all save checkpoints, the first one writes everything else.
    """
    check(config, mesh.shape)
    with Training(config, prepared, workdir, mesh, options) as training:
        state = training.restore()
        for step in training.remaining_steps():
            state, metrics = training.train_step(state, training.next_batch())
            due = training.due_after(step, metrics)
            training.check_bad_steps(due, state)
            if due.log:
                training.log(step, metrics, due.routing)
            if due.nll or due.bleu:
                due = training.validate(step, state, due)
            if due.save:
                training.save(step, state)
            if due.stop:
                return training.stop(step)
    return True
