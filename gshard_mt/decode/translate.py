"""Lines in, English lines out: a trained run, its tokenizer and its search behind one call."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gshard_mt.config.records import Config
from gshard_mt.data.normalization import normalize
from gshard_mt.data.tokenizer import Tokenizer, eos_id
from gshard_mt.decode.batching import SentenceBatch, batch_by_length, bucket_of
from gshard_mt.decode.beam import (
    WORST,
    Hypotheses,
    penalize_length,
)
from gshard_mt.decode.programs import BatchShape, SearchPrograms, by_row
from gshard_mt.decode.restrictions import Request, Restrictions, read_word_starts
from gshard_mt.decode.sample import Randomness, sample
from gshard_mt.decode.sentences import Sentences, Splitter
from gshard_mt.decode.translation import LineOptions, Translation, join_best
from gshard_mt.model.blueprint import Blueprint, abstract_model
from gshard_mt.model.transformer import EncodedSource
from gshard_mt.partitioning.hosts import gather, place

TRANSLATE = "translate"  # what `Translator.announce` is called with before the lines

FEW = 8  # rows of a batch for at most as many sentences
MANY = {True: 32, False: 512}  # rows of a batch on CPUs or not, unless the config sets them


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
    `announce` is called with whatever the devices are about to work on.
    """

    params: Any
    step: int
    name: str
    announce: Callable[..., Any] = staticmethod(lambda *work: None)

    def __init__(self, config: Config, tokenizer: Tokenizer, mesh: Mesh, quantized: bool = False):
        is_cpu = mesh.devices.flat[0].platform == "cpu"
        if is_cpu:
            # The products of decoding are small: there bfloat16 costs more in casts than it saves.
            config = dataclasses.replace(
                config, model=dataclasses.replace(config.model, dtype="float32")
            )
        self.config, self.mesh, self.tokenizer = config, mesh, tokenizer
        self.splitter = Splitter(config, tokenizer)
        self.blueprint: Blueprint = abstract_model(
            config.model, tokenizer.vocab_sizes, mesh, quantized=quantized
        )
        build = self.blueprint.build
        restrictions = Restrictions(config.decode, read_word_starts(tokenizer))
        self._programs = SearchPrograms(config, self.blueprint, restrictions)
        self._fold_in = jax.jit(_fold_in)
        self._sample = jax.jit(
            lambda params, encoding, request, key_B, temperature, shape_WT: sample(
                build(params),
                encoding,
                request,
                Randomness(key_B, temperature),
                shape_WT,
                restrictions,
            ),
            static_argnums=5,
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
        options: Sequence[LineOptions] | None = None,
    ) -> list[list[Translation]]:
        """Returns up to `num` translations per line, best first: of W beams, or `num` samples.

        Lines are split into sentences as `decode.split` says and normalized, as the training text
        was; of an empty line the only translation is empty. The k-th translation of several
        sentences has the k-th of each, and the mean of their scores. All sentences of a batch are
        in one length bucket.
        """
        options = options or [LineOptions()] * len(lines)
        if sampling:  # whose scores have no length penalty
            options = [each._replace(length_penalty=0.0) for each in options]
        split = self.splitter.split(lines, [each.language for each in options])
        units = self._list_units(split, options)
        found: list[list[Translation]] = [[] for _ in units]
        waiting = [len(each.parts) for each in split]
        on_progress(waiting.count(0))
        if units:
            self.announce(TRANSLATE, lines, num, sampling, options)
        batches = [
            (batch, [[units[i] for i in numbers] for numbers in batch.rounds])
            for batch in batch_by_length([len(each.ids) for each in units], self.num_rows)
        ]
        shapes = [] if sampling else [self._shape_of(*each) for each in batches]
        with jax.set_mesh(self.mesh), self._programs.compiling(self.params, shapes):
            for batch, rounds in batches:
                if sampling:
                    hypotheses = self._sample_batch(rounds, batch, num, sampling)
                else:
                    encodings, request = self._place(rounds, self._shape_of(batch, rounds))
                    hypotheses = gather(self._programs.search(self.params, encodings, request))
                for q, numbers in enumerate(batch.rounds):
                    for row, i in enumerate(numbers):
                        found[i] = self._read(hypotheses, row, q, num, units[i])
                        waiting[units[i].line] -= 1
                done = [units[i].line for numbers in batch.rounds for i in numbers]
                on_progress(sum(waiting[line] == 0 for line in set(done)))
        parts = iter(found)
        return [join_best(each, [next(parts) for _ in each.parts]) for each in split]

    def _list_units(
        self, split: Sequence[Sentences], options: Sequence[LineOptions]
    ) -> list["_Unit"]:
        longest = self.config.decode.max_source_length - 1
        texts = [part for each in split for part in each.parts]
        prefixes = self.tokenizer.encode_target([normalize(each.prefix) for each in options])
        encoded = iter(self.tokenizer.encode_source(texts))
        units = []
        for line, (sentences, asked) in enumerate(zip(split, options, strict=True)):
            for part in range(len(sentences.parts)):
                ids, prefix = next(encoded), [] if part else prefixes[line]
                is_truncated = len(ids) > longest
                unit = _Unit(line, part, [*ids[:longest], eos_id], is_truncated, prefix, asked)
                units.append(unit)
        return units

    def _sample_batch(
        self, rounds: list[list["_Unit"]], batch: SentenceBatch, num: int, sampling: Sampling
    ) -> Hypotheses:
        key, found = jax.random.key(sampling.seed), []
        for units in rounds:
            shape = self._shape_of(batch, [units])._replace(num_rounds=1)
            (encoding,), request = self._place([units], shape)
            line_B, part_B = np.zeros((2, batch.num_rows), np.uint32)
            for row, unit in enumerate(units):
                line_B[row] = sampling.first_line + sampling.stride * unit.line
                part_B[row] = unit.part
            key_B = self._fold_in(key, line_B, part_B)
            arrays = encoding, request, key_B, sampling.temperature
            shape_WT = num, self._programs.num_positions(encoding, request)
            found.append(gather(self._sample(self.params, *arrays, shape_WT)))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=1), *found)

    def _place(
        self, rounds: list[list["_Unit"]], shape: BatchShape
    ) -> tuple[Sequence[EncodedSource], Request]:
        """Returns the encodings of each round's sentences, and what is asked of them."""
        empty_BL, request = self._programs.empty(shape)
        limit_BQ, num_beams_BQ, length_penalty_BQ, prefix_BQT = request
        encodings = []
        for q, units in enumerate(rounds):
            source_BL = empty_BL.copy()
            for row, unit in enumerate(units):
                source_BL[row, : len(unit.ids)] = unit.ids
                limit_BQ[row, q] = self._programs.limit(len(unit.ids)) + len(unit.prefix)
                prefix_BQT[row, q, : len(unit.prefix)] = unit.prefix
                if unit.asked.beam_size is not None:
                    num_beams_BQ[row, q] = unit.asked.beam_size
                if unit.asked.length_penalty is not None:
                    length_penalty_BQ[row, q] = unit.asked.length_penalty
            source_BL = place(source_BL, by_row(self.mesh, source_BL))
            encodings.append(self._programs.encode(self.params, source_BL))
        encodings += encodings[:1] * (shape.num_rounds - len(rounds))  # without sentences: limit 0
        placed = [place(x, by_row(self.mesh, x)) for x in request]
        return tuple(encodings), Request(*placed)

    def _shape_of(self, batch: SentenceBatch, rounds: list[list["_Unit"]]) -> BatchShape:
        longest = max(len(unit.prefix) for units in rounds for unit in units)
        prefix_length = bucket_of(longest) if longest else 0
        return BatchShape(batch.num_rows, batch.bucket, batch.num_rounds, prefix_length)

    def _read(
        self, hypotheses: Hypotheses, row: int, q: int, num: int, unit: "_Unit"
    ) -> list[Translation]:
        ids_WT, score_W = hypotheses.ids_BQWT[row, q], hypotheses.score_BQW[row, q]
        num_ids_W = np.count_nonzero(ids_WT, axis=1)
        alpha = unit.asked.length_penalty
        alpha = self.config.decode.length_penalty if alpha is None else alpha
        mean_W = score_W * penalize_length(num_ids_W, alpha) / np.maximum(num_ids_W, 1)
        return [
            Translation(
                " ".join(self.tokenizer.decode_target(ids_T).split()),
                float(score),
                is_truncated=unit.is_truncated,
                mean=float(mean),
            )
            for ids_T, score, mean in zip(ids_WT[:num], score_W, mean_W, strict=False)
            if score > WORST
        ]


class _Unit(NamedTuple):
    """A sentence to translate: a part of a line."""

    line: int  # index of the line
    part: int  # index among the line's sentences
    ids: list[int]  # source subwords and the end of sentence
    is_truncated: bool  # the sentence has more of them than `decode.max_source_length`
    prefix: list[int]  # ids that the translation begins with
    asked: LineOptions


def _fold_in(key: jax.Array, line_B: jax.Array, part_B: jax.Array) -> jax.Array:
    """Returns a key per row, determined by the numbers of its line and of its sentence."""
    key_B = jax.vmap(jax.random.fold_in, (None, 0))(key, line_B)
    return jax.vmap(jax.random.fold_in)(key_B, part_B)
