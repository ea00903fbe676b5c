"""Steps that the runs of a test module share: what is equal is traced and compiled once."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from collections.abc import Callable

import pytest

from gshard_mt.config.records import TrainConfig
from gshard_mt.model.blueprint import Blueprint
from gshard_mt.train import training

# What a loop does between steps; a program depends on none of it, if its schedule has no end.
_LENGTHS = {
    "num_steps": 1,
    "log_every": 1,
    "eval_every": 1,
    "save_every": 1,
    "bleu_every": 0,
    "stop_after": 0,
    "max_checkpoints": 1,
}


class SharedSteps:
    """The jitted steps of all runs so far; a run that needs one again takes it from here."""

    def __init__(self) -> None:
        self._made: dict[tuple, Callable] = {}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """From now on the runs of this process share steps, as long as the patch lasts."""
        for name in ("make_train_step", "make_dev_step"):
            patch.setattr(training, name, self._share(name, getattr(training, name)))

    def _share(self, name: str, make: Callable) -> Callable:
        def share(blueprint: Blueprint, config: TrainConfig, *others):
            assert config.schedule == "constant"
            program = repr((blueprint.config, dataclasses.replace(config, **_LENGTHS), others[-1]))
            # Equal shapes have equal shardings.
            key = (name, program, repr(blueprint.params), blueprint.mesh)
            if key not in self._made:
                self._made[key] = make(blueprint, config, *others)
            return self._made[key]

        return share
