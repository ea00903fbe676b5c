"""Models small enough to compile in a second or two, and packed batches of random sentences."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gshard_mt.config.records import ModelConfig, MoeConfig
from gshard_mt.data.batches import Batch
from gshard_mt.data.tokenizer import bos_id, eos_id
from gshard_mt.model.blueprint import Blueprint, abstract_model
from gshard_mt.partitioning.mesh import build_mesh

VOCAB_SIZES = SOURCE_SIZE, TARGET_SIZE = 31, 37

# No dropout, and slots for every choice: tokens depend on each other only through attention.
MOE = ModelConfig(
    num_layers=4,
    model_dim=16,
    ffn_dim=24,
    num_heads=2,
    head_dim=6,
    moe=MoeConfig(num_experts=4, group_size=24, capacity_factor=4.0, eval_capacity_factor=4.0),
    dropout_rate=0.0,
)


def with_moe(config: ModelConfig, **values) -> ModelConfig:
    """A copy whose `moe` section has these values."""
    return dataclasses.replace(config, moe=dataclasses.replace(config.moe, **values))


DENSE = with_moe(dataclasses.replace(MOE, num_layers=2), num_experts=0)


class Tiny(NamedTuple):
    """A model with its parameters, on one device."""

    config: ModelConfig
    blueprint: Blueprint
    params: dict


def one_device():
    """The mesh of the first device alone."""
    return build_mesh(1, 1, devices=jax.devices()[:1])


def make(config: ModelConfig, seed: int = 0) -> Tiny:
    """Draws a model with `VOCAB_SIZES`, with NumPy: compiling `init_params` takes seconds."""
    blueprint = abstract_model(config, VOCAB_SIZES, one_device())
    rng = np.random.default_rng(seed)

    def draw(path, like: jax.ShapeDtypeStruct) -> jax.Array:
        noise = rng.normal(size=like.shape) / config.model_dim**0.5
        return jnp.asarray(1.0 + noise if path[-1].key == "scale_M" else noise, like.dtype)

    return Tiny(config, blueprint, jax.tree.map_with_path(draw, blueprint.params))


class Sentence(NamedTuple):
    """Ids of both sides, without BOS and EOS."""

    source: np.ndarray
    target: np.ndarray


def sentence(seed: int, source_length: int, target_length: int) -> Sentence:
    """A random sentence of ids other than the special symbols."""
    rng = np.random.default_rng(seed)
    return Sentence(
        rng.integers(4, SOURCE_SIZE, source_length),
        rng.integers(4, TARGET_SIZE, target_length),
    )


def pack(rows: list[list[Sentence]], length: int) -> Batch:
    """Packs each list of sentences into a row of `length` positions on both sides."""
    batch = Batch(*(np.zeros((len(rows), length), np.int32) for _ in Batch._fields))
    for row, sentences in enumerate(rows):
        source_start = target_start = 0
        for segment, (source, target) in enumerate(sentences, 1):
            where = (row, slice(source_start, source_start + len(source) + 1))
            batch.source_BL[where] = [*source, eos_id]
            batch.source_segment_BL[where] = segment
            batch.source_position_BL[where] = np.arange(len(source) + 1)
            source_start = where[1].stop
            where = (row, slice(target_start, target_start + len(target) + 1))
            batch.input_BT[where] = [bos_id, *target]
            batch.label_BT[where] = [*target, eos_id]
            batch.target_segment_BT[where] = segment
            batch.target_position_BT[where] = np.arange(len(target) + 1)
            target_start = where[1].stop
    return batch
