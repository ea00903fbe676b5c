"""What a model's experts are worth: the dev loss without each of them, one at a time."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import math
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gshard_mt.config.records import MeshConfig
from gshard_mt.console import Bar
from gshard_mt.data.prepared import Prepared
from gshard_mt.decode.loading import load_translator
from gshard_mt.decode.translate import Translator
from gshard_mt.errors import DataError
from gshard_mt.model.pruning import mask_gates
from gshard_mt.partitioning.hosts import share_rows
from gshard_mt.partitioning.placement import sharding
from gshard_mt.routing.strategies import DROPLESS, STRATEGIES
from gshard_mt.run.directory import read_run
from gshard_mt.run.pruning import Worth, gates_of
from gshard_mt.train.step import make_dev_step
from gshard_mt.train.validation import Validation


def loss_without_experts(workdir: pathlib.Path, step: str, prepared: Prepared) -> Worth:
    """Returns what takes the dev loss without an expert for its worth.

    The expert's tokens go to the best of the others, and the loss is the mean nll of the language
    pairs. The dev sentences pass through the model once for every expert of each layer, on all
    devices, and nothing is dropped. The result raises DataError for pairs without dev sentences.
    """

    def worth(pairs: Sequence[str]) -> dict[str, np.ndarray]:
        config = read_run(workdir).config
        model, config.mesh = config.model, MeshConfig()
        if all(STRATEGIES[gate].is_causal for gate in gates_of(model.moe)):
            model.moe.dispatch = DROPLESS
        translator = load_translator(workdir, config, step)
        loss = _dev_loss(translator, prepared, pairs)
        everyone = set(range(model.moe.num_experts))
        whole = {
            f"{stack}.layers.{layer}": sorted(everyone)
            for stack, is_decoder in (("encoder", False), ("decoder", True))
            for layer in range(0, model.layers_of(is_decoder), 2)
        }
        found = {layer: np.zeros(len(everyone)) for layer in whole}
        candidates = list(itertools.product(whole, sorted(everyone)))
        with Bar("choose", "expert", len(candidates)) as bar:
            for layer, expert in candidates:
                kept = {**whole, layer: sorted(everyone - {expert})}
                params = mask_gates(translator.params, kept, len(everyone))
                found[layer][expert] = loss(params)
                bar.update()
        return found

    return worth


def _dev_loss(
    translator: Translator, prepared: Prepared, pairs: Sequence[str]
) -> Callable[[Any], float]:
    """Returns the mean nll of the pairs' dev sentences as a function of the parameters."""
    config, mesh = translator.config, translator.mesh
    num_rows = math.lcm(config.train.batch_rows, mesh.devices.size)
    rows = share_rows(sharding(mesh, "BL", 2), num_rows)
    dev_step = make_dev_step(translator.blueprint, config.train, len(prepared.language_pairs))
    validation = Validation(config, prepared, rows, dev_step, None)

    def loss(params: Any) -> float:
        with jax.set_mesh(mesh):
            lines = list(validation.lines(params, with_nll=True, with_bleu=False))
        found = [line["nll"] for line in lines if line["pair"] in pairs]
        if not found:
            raise DataError(f"{prepared.directory}: no dev sentences of {', '.join(pairs)}")
        return statistics.fmean(found)

    return loss
