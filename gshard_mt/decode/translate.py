"""Lines in, English lines out: a trained run, its tokenizer and its beam search behind one call."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gshard_mt.config.records import Config, DecodeConfig
from gshard_mt.data.tokenizer import Tokenizer, bos_id, eos_id, load_tokenizer
from gshard_mt.decode.beam import WORST, Hypotheses, Search, beam_search, remember_source
from gshard_mt.decode.sample import Sampling, sample
from gshard_mt.model.blueprint import Blueprint, abstract_model
from gshard_mt.model.transformer import Memory, queue_memories
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.checkpoints import AVERAGE, Checkpoints

SHORTEST_BUCKET = 16  # source positions; every bucket is twice the one before
FEW = 8  # rows of a batch for as few sentences
MANY = {True: 32, False: 512}  # rows of a batch on CPUs or not, where the config leaves it open
QUEUE = 16  # sentences that a row translates one after another, where there are so many


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
    """A model on the devices and one compiled program per length bucket.

    `params` are to be given before anything is translated, and may be exchanged; `blueprint` says
    their shapes and places. `step` and `name` say which checkpoint they are, `batch_size` how many
    sentences are translated at once.
    """

    params: Any
    step: int
    name: str

    def __init__(self, config: Config, tokenizer: Tokenizer, mesh: Mesh):
        is_cpu = mesh.devices.flat[0].platform == "cpu"
        if is_cpu:
            # The products of decoding are small: there bfloat16 costs more in casts than it saves.
            config = dataclasses.replace(
                config, model=dataclasses.replace(config.model, dtype="float32")
            )
        self.config, self.mesh, self.tokenizer = config, mesh, tokenizer
        self.blueprint: Blueprint = abstract_model(config.model, tokenizer.vocab_sizes, mesh)
        self._encode = _compile_encode(self.blueprint)
        self._search = _compile_search(config.decode, self.blueprint)
        self._sample = _compile_sample(self.blueprint)
        devices, rows = mesh.devices.size, config.decode.batch_size or MANY[is_cpu]
        few, self.batch_size = (-(-num // devices) * devices for num in (FEW, rows))
        self._num_rows = min(few, self.batch_size), self.batch_size

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
        empty line has one, which is empty. A batch holds sentences of one length bucket. Sentences
        longer than `decode.max_source_length` subwords are translated up to there.
        """
        longest = self.config.decode.max_source_length - 1
        ids = [
            line_ids[:longest] + [eos_id] if line_ids else []
            for line_ids in self.tokenizer.encode_source([" ".join(line.split()) for line in lines])
        ]
        found = [[Translation("", 0.0)] for _ in lines]
        with jax.set_mesh(self.mesh):
            for batch in _batches([len(each) for each in ids], self._num_rows):
                turns = [[ids[i] for i in turn] for turn in batch.turns]
                if draw:
                    hypotheses = self._draw(turns, batch, num, draw)
                else:
                    hypotheses = self._search_batch(turns, batch)
                for q, turn in enumerate(batch.turns):
                    for row, i in enumerate(turn):
                        found[i] = self._read(hypotheses, row, q, num)
                on_progress(sum(map(len, batch.turns)))
        on_progress(ids.count([]))
        return found

    def _search_batch(self, turns: list[list[list[int]]], batch: "_Batch") -> Hypotheses:
        memories, limit_BQ = self._encode_batch(turns, batch)
        num_positions = _limit(batch.bucket, self.config.decode.max_length_factor)
        return jax.device_get(self._search(self.params, memories, limit_BQ, num_positions))

    def _draw(self, turns, batch: "_Batch", num: int, draw: Draw) -> Hypotheses:
        num_positions = _limit(batch.bucket, self.config.decode.max_length_factor)
        key, parts = jax.random.key(draw.seed), []
        for sources, numbers in zip(turns, batch.turns, strict=True):
            (memory,), limit_BQ = self._encode_batch([sources], batch)
            number_B = np.zeros(batch.num_rows, np.uint32)
            number_B[: len(numbers)] = np.array(numbers) + draw.first_line
            placed = (memory, limit_BQ[:, 0], key, number_B, num, num_positions)
            parts.append(self._sample(self.params, *placed, draw.temperature))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=1), *parts)

    def _encode_batch(self, turns, batch: "_Batch") -> tuple[tuple[Memory, ...], jax.Array]:
        """Returns the memory of each turn's sentences, and limit_BQ; 1 turn or QUEUE of them."""
        num_turns = 1 if len(turns) == 1 else QUEUE
        limit_BQ = np.zeros((batch.num_rows, num_turns), np.int32)
        memories = []
        for q, sources in enumerate(turns):
            source_BL = np.zeros((batch.num_rows, batch.bucket), np.int32)
            for row, source in enumerate(sources):
                source_BL[row, : len(source)] = source
                limit_BQ[row, q] = _limit(len(source), self.config.decode.max_length_factor)
            source_BL = jax.device_put(source_BL, sharding(self.mesh, "BL", 2))
            memories.append(self._encode(self.params, source_BL))
        memories += memories[:1] * (num_turns - len(memories))  # no sentence has their turn
        return tuple(memories), jax.device_put(limit_BQ, sharding(self.mesh, "BQ", 2))

    def _read(self, hypotheses: Hypotheses, row: int, q: int, num: int) -> list[Translation]:
        ids_WT, score_W = hypotheses.ids_BQWT[row, q], hypotheses.score_BQW[row, q]
        return [
            Translation(" ".join(self.tokenizer.decode_target(ids_T).split()), float(score))
            for ids_T, score in zip(ids_WT[:num], score_W, strict=False)
            if score > WORST
        ]


def load_translator(workdir: pathlib.Path, config: Config, step: str, mesh: Mesh) -> Translator:
    """Loads a step of a run: `latest`, `best`, a number, or `average`, of all that are kept.

    Raises CheckpointError or DataError.
    """
    checkpoints = Checkpoints(workdir, best_by=config.train.best_by)
    # Refused before anything is computed.
    checkpoints.choose("latest" if step == AVERAGE else step)
    translator = Translator(config, load_tokenizer(pathlib.Path(workdir)), mesh)
    like = translator.blueprint.params
    translator.step, translator.params = checkpoints.restore_params(step, like)
    is_average = step == AVERAGE
    translator.name = f"{AVERAGE}-{translator.step}" if is_average else str(translator.step)
    return translator


class _Batch(NamedTuple):
    """Sentences of one length bucket that are translated together: their numbers, turn by turn."""

    bucket: int
    num_rows: int
    turns: list[list[int]]  # a number for each row, fewer in the last turn


def _batches(lengths: Sequence[int], num_rows: tuple[int, int]) -> Iterator[_Batch]:
    """Deals sentences to few rows or many; those of no length are left out.

    Every row gets as much: one sentence of each turn, in which they are about equally long. The
    long ones come first, so that rows end at about the same time.
    """
    buckets: dict[int, list[int]] = {}
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        bucket = SHORTEST_BUCKET
        while bucket < lengths[i]:
            bucket *= 2
        if lengths[i]:
            buckets.setdefault(bucket, []).append(i)
    few, many = num_rows
    for bucket, numbers in buckets.items():
        rows = few if len(numbers) <= few else many
        turns = [numbers[k : k + rows] for k in range(0, len(numbers), rows)]
        for k in range(0, len(turns), QUEUE):
            yield _Batch(bucket, rows, turns[k : k + QUEUE])


def _limit(source_length: int, factor: float) -> int:
    return int(source_length * factor) + 10


def _compile_encode(blueprint: Blueprint) -> Callable[..., Memory]:
    @jax.jit
    def run(params, source_BL) -> Memory:
        return remember_source(blueprint.build(params), source_BL)

    return run


def _compile_search(config: DecodeConfig, blueprint: Blueprint) -> Callable[..., Hypotheses]:
    search = Search(config.beam_size, config.length_penalty, bos_id, eos_id)

    @functools.partial(jax.jit, static_argnums=3)
    def run(params, memories, limit_BQ, num_positions: int) -> Hypotheses:
        model, queue = blueprint.build(params), queue_memories(memories)
        return beam_search(model, search, queue, limit_BQ, num_positions)

    return run


def _compile_sample(blueprint: Blueprint) -> Callable[..., Hypotheses]:
    @functools.partial(jax.jit, static_argnums=(5, 6))
    def run(params, memory, limit_B, key, number_B, num: int, num_positions: int, temperature):
        model, sampling = blueprint.build(params), Sampling(num, temperature, bos_id, eos_id)
        key_B = jax.vmap(jax.random.fold_in, (None, 0))(key, number_B)
        return sample(model, sampling, memory, limit_B, key_B, num_positions)

    return run
