"""A run directory with a checkpoint of random parameters, as if it had been trained on a mesh."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import shutil
from typing import NamedTuple

import jax
import numpy as np

from gshard_mt.config.records import Config, DataConfig, MeshConfig
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.model.blueprint import Blueprint, abstract_model
from gshard_mt.model.moe import decoding_groups
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.run.directory import Run, start_run
from gshard_mt.train.step import sides
from tests.making.runs import tiny_config


class Made(NamedTuple):
    """A run directory and what is in its last checkpoint."""

    workdir: pathlib.Path
    config: Config
    blueprint: Blueprint  # on one device
    params: dict

    def logits(self, batch) -> np.ndarray:
        """What the project computes for a batch, as in decoding: nothing is dropped."""

        @jax.jit
        def run(params, batch):
            model, groups = self.blueprint.build(params), decoding_groups(self.config.model)
            source, target = sides(batch)
            memory_BLM, _ = model.encode(source, groups)
            hidden, _ = model.decode(memory_BLM, source.segment_BL, target, groups)
            return model.logits(hidden)

        return np.asarray(run(self.params, batch))


def make_run(
    folder: pathlib.Path, data: DataConfig, prepared: Prepared, moe: dict, **model
) -> Made:
    """Saves steps 3 (best) and 7; `moe` and `model` are fields of the config's sections."""
    config = tiny_config(data, MeshConfig(data=2, expert=4), 8, num_steps=7)
    for section, values in ((config.model.moe, moe), (config.model, model)):
        for key, value in values.items():
            setattr(section, key, value)
    shutil.copytree(prepared.directory / "tokenizer", folder / "data" / "tokenizer")
    sizes = load_tokenizer(prepared.directory).vocab_sizes
    if config.model.tie_embeddings:
        config.data.joint_vocabulary = True
        (folder / "data" / "tokenizer" / "source.model").unlink()
        target = folder / "data" / "tokenizer" / "target.model"
        target.rename(target.with_name("joint.model"))
        sizes = (sizes[1], sizes[1])
    workdir = folder / "run"
    start_run(
        workdir, Run(config, folder / "data", prepared.fingerprint, {"de-en": 300, "fr-en": 200})
    )

    placed = abstract_model(config.model, sizes, build_mesh(2, 4)).params
    checkpoints = Checkpoints(workdir, max_checkpoints=2)
    params = {}
    for step, nll in ((3, 1.0), (7, 2.0)):
        params = _draw(placed, step)
        on_mesh = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), params, placed)
        checkpoints.save(
            step, on_mesh, {"count": on_mesh["encoder_norm"]["scale_M"]}, {}, {"nll": nll}
        )
    checkpoints.close()
    one_device = build_mesh(1, 1, devices=jax.devices()[:1])
    return Made(workdir, config, abstract_model(config.model, sizes, one_device), params)


def _draw(likes: dict, seed: int) -> dict:
    rng = np.random.default_rng(seed)

    def draw(path, like) -> np.ndarray:
        noise = rng.normal(size=like.shape) / 4
        return (1.0 + noise if path[-1].key == "scale_M" else noise).astype(like.dtype)

    return jax.tree.map_with_path(draw, likes)
