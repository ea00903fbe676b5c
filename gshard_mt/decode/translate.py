"""Lines in, English lines out: a trained run, its tokenizer and its beam search behind one call."""
# SPDX-License-Identifier: Apache-2.0

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gshard_mt.checkpoint import Checkpoints
from gshard_mt.config import Config
from gshard_mt.data.tokenizer import Tokenizer, bos_id, eos_id, load_tokenizer
from gshard_mt.decode.beam import WORST, Hypotheses, Search, beam_search
from gshard_mt.decode.sample import Sampling, sample
from gshard_mt.model.blueprint import Blueprint, draw_blueprint
from gshard_mt.model.transformer import Vocabulary
from gshard_mt.partitioning.params import sharding

SHORTEST_BUCKET = 16  # source positions; every bucket is twice the one before


class Translation(NamedTuple):
    """An English line and its log-probability in nats, over the length penalty if searched for."""

    text: str
    score: float


class Draw(NamedTuple):
    """Asks for samples instead of a search; line number and seed say which ones a line gets."""

    temperature: float
    seed: int
    first_line: int = 0  # the number of the first line


class Translator:
    """A run's parameters on the devices and one compiled program per length bucket."""

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
        self._sample = _compile_sample(config, self.blueprint)
        devices = mesh.devices.size
        self._num_rows = -(-config.decode.batch_size // devices) * devices

    def translate(
        self, lines: Sequence[str], on_progress: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """Returns one English line a line, in order; an empty line stays empty."""
        return [best[0].text for best in self.list_best(lines, 1, on_progress)]

    def list_best(
        self,
        lines: Sequence[str],
        num: int,
        on_progress: Callable[[int], Any] = lambda done: None,
        draw: Draw | None = None,
    ) -> list[list[Translation]]:
        """Returns up to `num` translations a line, best first; the lines are in order.

        Found by beam search, of whose W hypotheses `num` are given, or `num` that are drawn. An
        empty line has one, which is empty. Sorted by length first, so that a batch holds sentences
        of one bucket. Sentences longer than `decode.max_source_length` subwords are translated up
        to there.
        """
        longest = self.config.decode.max_source_length - 1
        ids = [
            line_ids[:longest] + [eos_id] if line_ids else []
            for line_ids in self.tokenizer.encode_source([" ".join(line.split()) for line in lines])
        ]
        found = [[Translation("", 0.0)] for _ in lines]
        order = sorted(filter(ids.__getitem__, range(len(lines))), key=lambda i: (len(ids[i]), i))
        on_progress(len(lines) - len(order))
        with jax.set_mesh(self.mesh):
            for start in range(0, len(order), self._num_rows):
                batch = order[start : start + self._num_rows]
                sources = [ids[i] for i in batch]
                if draw:
                    hypotheses = self._draw(sources, batch, num, draw)
                else:
                    hypotheses = self._search_batch(sources)
                for row, i in enumerate(batch):
                    found[i] = self._read(hypotheses, row, num)
                on_progress(len(batch))
        return found

    def _search_batch(self, sources: list[list[int]]) -> Hypotheses:
        placed, num_positions = self._place(sources)
        return jax.device_get(self._search(self._params, *placed, num_positions))

    def _draw(self, sources, numbers: list[int], num: int, draw: Draw) -> Hypotheses:
        placed, num_positions = self._place(sources)
        number_B = np.zeros(self._num_rows, np.uint32)
        number_B[: len(numbers)] = np.array(numbers) + draw.first_line
        key, how = jax.random.key(draw.seed), (num, num_positions, draw.temperature)
        return jax.device_get(self._sample(self._params, *placed, key, number_B, *how))

    def _place(self, sources: list[list[int]]) -> tuple[tuple[jax.Array, jax.Array], int]:
        """Returns a batch on the devices, source_BL and limit_B, and the positions it needs."""
        bucket = SHORTEST_BUCKET
        while bucket < max(map(len, sources)):
            bucket *= 2
        source_BL = np.zeros((self._num_rows, bucket), np.int32)
        limit_B = np.zeros(self._num_rows, np.int32)
        for row, source in enumerate(sources):
            source_BL[row, : len(source)] = source
            limit_B[row] = _limit(len(source), self.config.decode.max_length_factor)
        placed = (
            jax.device_put(source_BL, sharding(self.mesh, "BL", 2)),
            jax.device_put(limit_B, sharding(self.mesh, "B", 1)),
        )
        return placed, _limit(bucket, self.config.decode.max_length_factor)

    def _read(self, hypotheses: Hypotheses, row: int, num: int) -> list[Translation]:
        scored = zip(hypotheses.ids_BWT[row, :num], hypotheses.score_BW[row], strict=False)
        return [
            Translation(" ".join(self.tokenizer.decode_target(ids_T).split()), float(score))
            for ids_T, score in scored
            if score > WORST
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


def _compile_sample(config: Config, blueprint: Blueprint) -> Callable[..., Hypotheses]:
    @functools.partial(jax.jit, static_argnums=(5, 6))
    def run(params, source_BL, limit_B, key, number_B, num: int, num_positions: int, temperature):
        model, sampling = blueprint.build(params), Sampling(num, temperature, bos_id, eos_id)
        key_B = jax.vmap(jax.random.fold_in, (None, 0))(key, number_B)
        return sample(model, config.model, sampling, source_BL, limit_B, key_B, num_positions)

    return run
