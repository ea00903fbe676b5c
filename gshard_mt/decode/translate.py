"""Lines in, English lines out: a trained run, its tokenizer and its search behind one call."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gshard_mt.config.records import Config
from gshard_mt.data.normalization import normalize
from gshard_mt.data.tokenizer import Tokenizer, eos_id, load_tokenizer
from gshard_mt.decode.beam import WORST, Hypotheses, beam_search, encode_source
from gshard_mt.decode.sample import sample
from gshard_mt.decode.translation import Translation
from gshard_mt.errors import CheckpointError
from gshard_mt.model.blueprint import Blueprint, abstract_model
from gshard_mt.model.layout import assemble, lay_out
from gshard_mt.model.pruning import prune_params
from gshard_mt.model.quantized import has_fast_integers
from gshard_mt.model.transformer import EncodedSource, stack_encodings
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.checkpoints import AVERAGE, Checkpoints
from gshard_mt.run.exported import INT8, is_export, read_export
from gshard_mt.run.pruning import Pruning, with_experts

SHORTEST_BUCKET = 16  # source positions; each bucket is twice as long as the one before
FEW = 8  # rows of a batch for at most as many sentences
MANY = {True: 32, False: 512}  # rows of a batch on CPUs or not, unless the config sets them
MAX_ROUNDS = 16  # sentences that a row translates one after another


class Sampling(NamedTuple):
    """Requests samples instead of a search; the seed and the line number determine them."""

    temperature: float
    seed: int
    first_line: int = 0  # the number of the first line
    stride: int = 1  # from the number of a line to that of the next


class Translator:
    """A model on the devices and one compiled program per length bucket.

    `params` must be set before translating and may be replaced; `blueprint` has their shapes and
    shardings. `step` and `name` identify their checkpoint, and `batch_size` sentences are
    translated at once; `num_rows` are the rows of a batch for few sentences and for many.
    """

    params: Any
    step: int
    name: str

    def __init__(self, config: Config, tokenizer: Tokenizer, mesh: Mesh, quantized: bool = False):
        is_cpu = mesh.devices.flat[0].platform == "cpu"
        if is_cpu:
            # The products of decoding are small: there bfloat16 costs more in casts than it saves.
            config = dataclasses.replace(
                config, model=dataclasses.replace(config.model, dtype="float32")
            )
        self.config, self.mesh, self.tokenizer = config, mesh, tokenizer
        self.blueprint: Blueprint = abstract_model(
            config.model, tokenizer.vocab_sizes, mesh, quantized=quantized
        )
        build = self.blueprint.build
        self._encode = jax.jit(lambda params, source_BL: encode_source(build(params), source_BL))
        self._search = jax.jit(
            lambda params, encodings, *limits: beam_search(
                build(params), config.decode, stack_encodings(encodings), *limits
            ),
            static_argnums=3,
        )
        self._sample = jax.jit(
            lambda params, *inputs: sample(build(params), *inputs), static_argnums=5
        )
        devices, rows = mesh.devices.size, config.decode.batch_size or MANY[is_cpu]
        few, self.batch_size = (-(-num // devices) * devices for num in (FEW, rows))
        self.num_rows = min(few, self.batch_size), self.batch_size

    def translate(
        self, lines: Sequence[str], on_progress: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """Returns one English line per line, in order; an empty line stays empty."""
        return [best.text for best in self.find_best(lines, on_progress)]

    def find_best(
        self, lines: Sequence[str], on_progress: Callable[[int], Any] = lambda done: None
    ) -> list[Translation]:
        """Returns the best translation of each line, in order."""
        return [best[0] for best in self.list_best(lines, 1, on_progress)]

    def list_best(
        self,
        lines: Sequence[str],
        num: int,
        on_progress: Callable[[int], Any] = lambda done: None,
        sampling: Sampling | None = None,
    ) -> list[list[Translation]]:
        """Returns up to `num` translations per line, best first: of W beams, or `num` samples.

        Lines are normalized, as the training text was; of an empty line the only translation is
        empty. Of a sentence, the first `decode.max_source_length` subwords, with the end of the
        sentence, are translated, and its translations say so. All sentences of a batch are in one
        length bucket.
        """
        longest = self.config.decode.max_source_length - 1
        whole = self.tokenizer.encode_source([normalize(line) for line in lines])
        ids = [line_ids[:longest] + [eos_id] if line_ids else [] for line_ids in whole]
        found = [[Translation("", 0.0)] for _ in lines]
        with jax.set_mesh(self.mesh):
            for batch in batch_by_length([len(each) for each in ids], self.num_rows):
                sources = [[ids[i] for i in numbers] for numbers in batch.rounds]
                if sampling:
                    hypotheses = self._sample_batch(sources, batch, num, sampling)
                else:
                    hypotheses = self._search_batch(sources, batch)
                for q, numbers in enumerate(batch.rounds):
                    for row, i in enumerate(numbers):
                        best = self._read(hypotheses, row, q, num)
                        is_truncated = len(whole[i]) > longest
                        found[i] = [Translation(*each, is_truncated) for each in best]
                on_progress(sum(map(len, batch.rounds)))
        on_progress(ids.count([]))
        return found

    def _search_batch(self, sources: list[list[list[int]]], batch: "_Batch") -> Hypotheses:
        encodings, limit_BQ = self._encode_batch(sources, batch)
        num_positions = self._limit(batch.bucket)
        return jax.device_get(self._search(self.params, encodings, limit_BQ, num_positions))

    def _sample_batch(self, sources, batch: "_Batch", num: int, sampling: Sampling) -> Hypotheses:
        key, rounds = jax.random.key(sampling.seed), []
        for numbers, round_sources in zip(batch.rounds, sources, strict=True):
            (encoding,), limit_BQ = self._encode_batch([round_sources], batch)
            number_B = np.zeros(batch.num_rows, np.uint32)
            number_B[: len(numbers)] = sampling.first_line + sampling.stride * np.array(numbers)
            key_B = jax.vmap(jax.random.fold_in, (None, 0))(key, number_B)
            arrays = (encoding, limit_BQ[:, 0], key_B, sampling.temperature)
            rounds.append(self._sample(self.params, *arrays, (num, self._limit(batch.bucket))))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=1), *rounds)

    def _encode_batch(self, sources, batch: "_Batch") -> tuple[Sequence[EncodedSource], jax.Array]:
        """Returns the encodings of each round's sentences, and limit_BQ; Q is 1 or MAX_ROUNDS."""
        num_rounds = 1 if len(sources) == 1 else MAX_ROUNDS
        limit_BQ = np.zeros((batch.num_rows, num_rounds), np.int32)
        encodings = []
        for q, round_sources in enumerate(sources):
            source_BL = np.zeros((batch.num_rows, batch.bucket), np.int32)
            for row, source in enumerate(round_sources):
                source_BL[row, : len(source)] = source
                limit_BQ[row, q] = self._limit(len(source))
            source_BL = jax.device_put(source_BL, sharding(self.mesh, "BL", 2))
            encodings.append(self._encode(self.params, source_BL))
        encodings += encodings[:1] * (num_rounds - len(encodings))  # without sentences: limit 0
        return tuple(encodings), jax.device_put(limit_BQ, sharding(self.mesh, "BQ", 2))

    def _limit(self, source_length: int) -> int:
        return int(source_length * self.config.decode.max_length_factor) + 10

    def _read(self, hypotheses: Hypotheses, row: int, q: int, num: int) -> list[tuple[str, float]]:
        ids_WT, score_W = hypotheses.ids_BQWT[row, q], hypotheses.score_BQW[row, q]
        return [
            (" ".join(self.tokenizer.decode_target(ids_T).split()), float(score))
            for ids_T, score in zip(ids_WT[:num], score_W, strict=False)
            if score > WORST
        ]


def load_translator(
    folder: pathlib.Path, config: Config, step: str, pruning: Pruning | None = None
) -> Translator:
    """Loads a step of a run: `latest`, `best`, a number, or the `average` of all kept steps.

    An exported model has only one step. With a pruning, the run's parameters lose the experts that
    are not kept; `config` is that of the run all the same. The config's mesh has all devices.
    Raises CheckpointError, ConfigError or DataError.
    """
    smaller = with_experts(config, pruning.num_kept) if pruning else config
    mesh = _decoding_mesh(smaller)
    if is_export(folder):
        return _load_export(folder, config, step, mesh)
    checkpoints = Checkpoints(folder, best_by=config.train.best_by)
    checkpoints.choose("latest" if step == AVERAGE else step)  # raises before anything is computed
    translator = Translator(smaller, load_tokenizer(folder), mesh)
    like = translator.blueprint.params
    if pruning:
        whole = abstract_model(config.model, translator.tokenizer.vocab_sizes, mesh).params
        translator.step, params = checkpoints.restore_params(step, whole)
        placed = jax.tree.map(lambda x: x.sharding, like)
        prune = functools.partial(prune_params, kept=pruning.kept)
        translator.params = jax.jit(prune, out_shardings=placed)(params)
    else:
        translator.step, translator.params = checkpoints.restore_params(step, like)
    is_average = step == AVERAGE
    translator.name = f"{AVERAGE}-{translator.step}" if is_average else str(translator.step)
    return translator


def _decoding_mesh(config: Config) -> Mesh:
    """Returns the config's grid; if its expert axis doesn't divide the experts, a shorter one."""
    mesh = build_mesh(*config.mesh.decoding_shape())
    data, expert, model = (mesh.shape[name] for name in ("data", "expert", "model"))
    fitting = math.gcd(expert, config.model.moe.num_experts)  # that of a dense model is `expert`
    return mesh if fitting == expert else build_mesh(data * expert // fitting, fitting, model)


def _load_export(folder: pathlib.Path, config: Config, step: str, mesh: Mesh) -> Translator:
    model = read_export(folder)
    if step not in ("latest", str(model.step)):
        raise CheckpointError(
            f"--step: found {step}, accepted: latest, or {model.step}, the only step in {folder}"
        )
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    quantized = model.dtype == INT8 and is_cpu and has_fast_integers()
    tokenizer = load_tokenizer(folder)
    whole = abstract_model(config.model, tokenizer.vocab_sizes, mesh).params
    model.check_shapes({tensor.name: tensor.shape for tensor in lay_out(whole)})
    translator = Translator(config, tokenizer, mesh, quantized)
    translator.step, translator.name = model.step, str(model.step)
    like = translator.blueprint.params
    names = [tensor.name for tensor in lay_out(like)]
    translator.params = assemble(like, model.read_stored(names) if quantized else model.read(names))
    return translator


class _Batch(NamedTuple):
    """Sentences of one length bucket that are decoded together, one per row and round."""

    bucket: int
    num_rows: int
    rounds: list[list[int]]  # indices of sentences, one per row, fewer in the last round


def batch_by_length(lengths: Sequence[int], num_rows: tuple[int, int]) -> Iterator[_Batch]:
    """Groups sentences into batches of few or many rows; those of length 0 are left out.

    The sentences of a round are about equally long, and the long ones come first, so that all
    rows finish at about the same time.
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
        rounds = [numbers[k : k + rows] for k in range(0, len(numbers), rows)]
        for k in range(0, len(rounds), MAX_ROUNDS):
            yield _Batch(bucket, rows, rounds[k : k + MAX_ROUNDS])
