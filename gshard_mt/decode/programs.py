"""The programs of a search: encoding and beam search, compiled ahead in other threads."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from gshard_mt.config.records import Config
from gshard_mt.decode.beam import Hypotheses, beam_search, encode_source
from gshard_mt.decode.restrictions import Request, Restrictions
from gshard_mt.model.blueprint import Blueprint
from gshard_mt.model.transformer import EncodedSource, stack_encodings
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.traces import Program

_COMPILERS = 8  # threads that compile, at most

for _record in (EncodedSource, Hypotheses):
    jax.export.register_namedtuple_serialization(_record, serialized_name=_record.__name__)


class BatchShape(NamedTuple):
    """What the programs of a batch are compiled for."""

    num_rows: int
    bucket: int  # source positions
    num_rounds: int
    prefix_length: int


class SearchPrograms:
    """Encoding and beam search of a model.

    `encode` makes of parameters and source ids [B, L] an EncodedSource; `search` makes Hypotheses
    of parameters, an EncodedSource for each of Q rounds, and a Request.
    """

    def __init__(self, config: Config, blueprint: Blueprint, restrictions: Restrictions):
        self._decode, self._mesh, build = config.decode, blueprint.mesh, blueprint.build
        # Besides shapes, that's what a program depends on.
        made_of = repr((config.model, config.decode, restrictions.starts_word_V.tobytes()))
        by_letters = functools.partial(sharding, self._mesh)
        self.encode = Program(
            lambda params, source_BL: encode_source(build(params), source_BL),
            f"encode {made_of}",
            self._mesh,
            out_shardings=EncodedSource(by_letters("BNDL", 5), by_letters("BL", 2)),  # type: ignore
        )
        self.search = Program(
            lambda params, encodings, request: beam_search(
                build(params),
                stack_encodings(encodings),
                request,
                (config.decode.beam_size, self.num_positions(encodings[0], request)),
                restrictions,
            ),
            f"search {made_of}",
            self._mesh,
        )
        self._begun: set[BatchShape] = set()

    def limit(self, source_length: int) -> int:
        """Returns how many ids a translation has at most, without a forced beginning."""
        return int(source_length * self._decode.max_length_factor) + 10

    def num_positions(self, encoding: EncodedSource, request: Request) -> int:
        """Returns how many target positions a search has."""
        return self.limit(encoding.is_token_BL.shape[1]) + request.prefix_BQT.shape[2]

    def empty(self, shape: BatchShape) -> tuple[np.ndarray, Request]:
        """Returns source ids and request of a batch without sentences."""
        shape_BQ = shape.num_rows, shape.num_rounds
        return np.zeros((shape.num_rows, shape.bucket), np.int32), Request(
            np.zeros(shape_BQ, np.int32),
            np.full(shape_BQ, self._decode.beam_size, np.int32),
            np.full(shape_BQ, self._decode.length_penalty, np.float32),
            np.zeros((*shape_BQ, shape.prefix_length), np.int32),
        )

    @contextlib.contextmanager
    def compiling(self, params: Any, shapes: Sequence[BatchShape]) -> Iterator[None]:
        """Has other threads compile what is not begun yet, in this order; one may call it already.

        Only on CPUs, in one process: elsewhere programs are compiled when they are called.
        """
        is_cpu = self._mesh.devices.flat[0].platform == "cpu"
        new = [shape for shape in dict.fromkeys(shapes) if shape not in self._begun]
        if not new or not is_cpu or jax.process_count() > 1:
            yield
            return
        self._begun.update(new)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _COMPILERS)) as threads:
            try:
                for shape in new:
                    source_BL, request = self.empty(shape)
                    ids = params, _shaped(self._mesh, source_BL)
                    asked = jax.tree.map(functools.partial(_shaped, self._mesh), request)
                    threads.submit(self.encode.compile, *ids)
                    threads.submit(self._compile_search, shape.num_rounds, ids, asked)
                yield
            finally:
                threads.shutdown(cancel_futures=True)

    def _compile_search(self, num_rounds: int, ids: tuple[Any, Any], request: Request) -> None:
        encodings = (self.encode.result(*ids),) * num_rounds
        self.search.compile(ids[0], encodings, request)


def by_row(mesh: Mesh, array: np.ndarray) -> NamedSharding:
    """Returns the sharding of an array of a batch, such as those of `SearchPrograms.empty`."""
    return sharding(mesh, "BQT"[: array.ndim], array.ndim)


def _shaped(mesh: Mesh, array: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=by_row(mesh, array))
