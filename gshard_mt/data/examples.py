"""Sentence pairs as tf.train.Examples of token ids, which TFDS reads too."""
# SPDX-License-Identifier: Apache-2.0

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Record(NamedTuple):
    """A sentence pair as subword ids, without BOS, EOS or padding."""

    id: int
    source: list[int]
    target: list[int]


class Ragged(NamedTuple):
    """Lists of ids, concatenated, and the length of each."""

    ids: np.ndarray  # int32
    lengths: np.ndarray  # int64


def serialize(record: Record) -> bytes:
    """Returns the record as an Example: the same bytes on every machine."""
    example = _example_class()()
    for key, values in zip(record._fields, ([record.id], *record[1:]), strict=True):
        numbers = example.features.feature[key].int64_list
        numbers.SetInParent()  # present even if it is empty
        numbers.value.extend(values)
    return example.SerializeToString(deterministic=True)


def parse(content: bytes) -> Record:
    """Returns the record of a serialized Example."""
    features = _example_class().FromString(content).features.feature
    (id,), source, target = (features[key].int64_list.value[:] for key in Record._fields)
    return Record(id, source, target)


def concatenate(lists: Sequence[Sequence[int]]) -> Ragged:
    """Returns lists of ids as arrays; ids are taken modulo 2^32."""
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    ids = np.fromiter(itertools.chain.from_iterable(lists), np.int64, int(lengths.sum()))
    return Ragged(ids.astype(np.int32), lengths)


@functools.cache
def _example_class() -> Any:
    from tensorflow_datasets.proto import tf_example_pb2  # here, because its import takes 0.3 s

    return tf_example_pb2.Example  # type: ignore[attr-defined]
