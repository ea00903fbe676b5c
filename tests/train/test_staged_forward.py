"""A pipeline computes what its micro-batches do in sequence, and sends no weights."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools

import jax
import numpy as np

from gshard_mt.config.records import Config
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.train.state import abstract_training
from tests.collectives import find_collectives
from tests.model import tiny
from tests.train.one_step import assert_equal, lower

DEPTH = 4  # layers per stack
ROWS = [[tiny.sentence(row, 5 + row % 3, 9), tiny.sentence(row, 7, 4)] for row in range(16)]
BATCH = tiny.pack(ROWS, 16)


def make_config(stage: int, num_parts: int) -> Config:
    config = Config()
    config.model = dataclasses.replace(
        tiny.DENSE, num_layers=2 * DEPTH, dropout_rate=0.1, ffn_dropout_rate=0.1
    )
    config.model.remat = "full" if stage > 1 else "none"  # which changes no value
    config.train.optimizer = "adamw"
    config.train.accumulation_steps, config.mesh.stage = num_parts, stage
    return config


@functools.cache
def run(shape: tuple[int, ...], num_parts: int, is_random: bool = True):
    """Returns gradient and sums, with a key new parameters too, and the compiled program's text."""
    mesh = build_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    key = jax.random.key(0) if is_random else None
    config = make_config(shape[3], num_parts)
    lowered, arguments = lower(config, mesh, BATCH, key, is_updated=is_random)
    compiled = lowered.compile()
    return jax.device_get(compiled(*arguments)), compiled.as_text()


def test_a_pipeline_equals_its_micro_batches_in_sequence_dropout_included():
    assert_equal(run((2, 1, 2, 2), 4)[0], run((1, 1, 1, 1), 4)[0])


def test_a_pipeline_without_dropout_equals_the_whole_batch_on_one_device():
    """With fewer micro-batches than stages."""
    assert_equal(run((2, 1, 1, 4), 2, False)[0], run((1, 1, 1, 1), 1, False)[0])


def test_micro_batches_are_sent_and_weights_are_not():
    text = run((2, 1, 1, 4), 2, False)[1]
    collectives = find_collectives(text)
    assert "collective-permute" in {kind for kind, _ in collectives}
    model = make_config(4, 2).model
    weight = model.model_dim * min(model.ffn_dim, model.num_heads * model.head_dim)
    rows, length, width = 16 // 2 // 2, 16, model.model_dim  # of a micro-batch on a device
    assert all(size < weight for kind, size in collectives if kind == "all-gather")
    sent = {size for kind, size in collectives if kind == "collective-permute"}
    assert rows * length * width in sent and max(sent) <= rows * length * width


def test_a_stage_holds_its_share_of_the_layers_and_of_their_optimizer_state():
    config, mesh = make_config(4, 4), build_mesh(2, 1, 1, 4)
    like = abstract_training(config, tiny.VOCAB_SIZES, mesh)[2]
    num_split = 0
    for path, leaf in jax.tree.flatten_with_path((like.params, like.opt_state))[0]:
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        part = leaf.sharding.shard_shape(leaf.shape)
        if "layers" in names:
            assert part == (leaf.shape[0] // 4, *leaf.shape[1:])
            num_split += 1
        else:
            assert part == leaf.shape
    assert num_split > 40
