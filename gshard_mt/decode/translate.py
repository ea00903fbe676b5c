"""Lines in, English lines out: a trained run, its tokenizer and its beam search behind one call."""
# SPDX-License-Identifier: Apache-2.0

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gshard_mt.checkpoint import Checkpoints
from gshard_mt.config import Config
from gshard_mt.data.tokenizer import Tokenizer, bos_id, eos_id, load_tokenizer
from gshard_mt.decode.beam import Hypotheses, Search, beam_search
from gshard_mt.model.blueprint import Blueprint, draw_blueprint
from gshard_mt.model.transformer import Vocabulary
from gshard_mt.partitioning.params import sharding

SHORTEST_BUCKET = 16  # source positions; every bucket is twice the one before


class Translator:
    """A run's parameters on the devices and one compiled search per length bucket."""

    def __init__(self, workdir: pathlib.Path, config: Config, step: str, mesh: Mesh):
        """Loads a step (`latest`, `best` or a number). Raises CheckpointError or DataError."""
        checkpoints = Checkpoints(workdir)
        self.config, self.mesh = config, mesh
        checkpoints.choose(step)  # refused before anything is computed
        self.tokenizer: Tokenizer = load_tokenizer(pathlib.Path(workdir))
        vocabulary = Vocabulary(self.tokenizer.source_size, self.tokenizer.target_size)
        self.blueprint: Blueprint = draw_blueprint(config.model, vocabulary, mesh)
        self.step, self._params = checkpoints.restore_params(step, self.blueprint.params)
        self._search = _compile_search(config, self.blueprint)
        devices = mesh.devices.size
        self._num_rows = -(-config.decode.batch_size // devices) * devices

    def translate(
        self, lines: Sequence[str], on_progress: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """Returns one English line a line, in order; an empty line stays empty.

        Sorted by length first, so that a batch holds sentences of one bucket. Sentences longer than
        `decode.max_source_length` subwords are translated up to there.
        """
        longest = self.config.decode.max_source_length - 1
        ids = [
            line_ids[:longest] + [eos_id] if line_ids else []
            for line_ids in self.tokenizer.encode_source([" ".join(line.split()) for line in lines])
        ]
        order = sorted(range(len(lines)), key=lambda i: (len(ids[i]), i))
        texts = [""] * len(lines)
        with jax.set_mesh(self.mesh):
            for start in range(0, len(order), self._num_rows):
                batch = order[start : start + self._num_rows]
                translated = self._translate_batch([ids[i] for i in batch])
                for i, text in zip(batch, translated, strict=True):
                    texts[i] = text
                on_progress(len(batch))
        return texts

    def _translate_batch(self, sources: list[list[int]]) -> list[str]:
        bucket = SHORTEST_BUCKET
        while bucket < max(map(len, sources)):
            bucket *= 2
        source_BL = np.zeros((self._num_rows, bucket), np.int32)
        limit_B = np.zeros(self._num_rows, np.int32)
        for row, source in enumerate(sources):
            source_BL[row, : len(source)] = source
            if source:
                limit_B[row] = _limit(len(source), self.config.decode.max_length_factor)
        placed = (
            jax.device_put(source_BL, sharding(self.mesh, "BL", 2)),
            jax.device_put(limit_B, sharding(self.mesh, "B", 1)),
        )
        num_positions = _limit(bucket, self.config.decode.max_length_factor)
        best_BT = jax.device_get(self._search(self._params, *placed, num_positions).ids_BWT)[:, 0]
        return [
            " ".join(self.tokenizer.decode_target(best_BT[row]).split())
            for row in range(len(sources))
        ]


def _limit(source_length: int, factor: float) -> int:
    return int(source_length * factor) + 10


def _compile_search(config: Config, blueprint: Blueprint) -> Callable[..., Hypotheses]:
    search = Search(config.decode.beam_size, config.decode.length_penalty, bos_id, eos_id)

    @functools.partial(jax.jit, static_argnums=3)
    def run(params, source_BL, limit_B, num_positions: int) -> Hypotheses:
        model = blueprint.build(params)
        return beam_search(model, config.model, search, source_BL, limit_B, num_positions)

    return run
