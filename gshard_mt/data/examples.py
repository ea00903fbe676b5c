"""Parses many tf.train.Examples of token ids at once, with NumPy."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_KEYS = (b"source", b"target")
_MAX_FEATURES = 8
_PAD = bytes(16)  # so that reads past the end are harmless; their values are discarded

# Tags of the wire format: length-delimited fields 1, 2 and 3.
_FIRST, _SECOND, _THIRD = 0x0A, 0x12, 0x1A


class Columns(NamedTuple):
    """Sentences of many records, concatenated without BOS, EOS or padding, and their lengths."""

    source: np.ndarray  # int32
    source_lengths: np.ndarray  # int64
    target: np.ndarray
    target_lengths: np.ndarray


class UnusualExampleError(Exception):
    """An Example that may be valid but is not laid out as protobuf libraries write it."""


def parse_examples(contents: Sequence[bytes]) -> Columns:
    """Returns `source` and `target` of serialized Examples; values are taken modulo 2^32.

    Features may be in any order, and others may be present. Raises UnusualExampleError unless lists
    are packed and every field occurs once.
    """
    lengths = np.array([len(content) for content in contents], np.int64)
    ends = np.cumsum(lengths)
    data = np.frombuffer(b"".join(contents) + _PAD, np.uint8)
    at, stop = _enter(data, ends - lengths, _FIRST, ends)
    _expect(stop == ends)
    begins, stops = np.full((2, len(_KEYS), len(contents)), -1, np.int64)
    for _ in range(_MAX_FEATURES):
        rows = np.flatnonzero(at < ends)
        if not len(rows):
            break
        at[rows] = _read_feature(data, at[rows], ends[rows], (begins, stops, rows))
    _expect((at == ends) & (begins >= 0).all(axis=0))
    sides = [_read_lists(data, *spans) for spans in zip(begins, stops, strict=True)]
    return Columns(*sides[0], *sides[1])


def _read_feature(
    data: np.ndarray,
    at: np.ndarray,
    ends: np.ndarray,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Reads one feature of every record and stores where the list of a known key begins and stops.

    `found` is the begins and stops by key and record, and the records' numbers. Returns where the
    features end.
    """
    begins, stops, rows = found
    at, feature_ends = _enter(data, at, _FIRST, ends)
    at, key_ends = _enter(data, at, _FIRST, feature_ends)
    for number, key in enumerate(_KEYS):
        is_it = key_ends - at == len(key)
        for offset, byte in enumerate(key):
            is_it &= data[at + offset] == byte
        _expect(begins[number, rows[is_it]] < 0)
        inside, ends_of_it = key_ends[is_it], feature_ends[is_it]
        for tag in (_SECOND, _THIRD, _FIRST):  # the feature, its int64_list, its packed values
            inside, stop = _enter(data, inside, tag, ends_of_it)
            _expect(stop == ends_of_it)
        begins[number, rows[is_it]], stops[number, rows[is_it]] = inside, ends_of_it
    return feature_ends


def _enter(
    data: np.ndarray, at: np.ndarray, tag: int, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a tag and a length; returns where the field's content begins and ends."""
    _expect((at < ends) & (data[at] == tag))
    at = at + 1
    byte = data[at].astype(np.int64)
    length = byte & 127
    for shift in (7, 14, 21):
        is_on = byte >= 128
        if not is_on.any():
            break
        at = at + is_on
        byte = np.where(is_on, data[at], 0).astype(np.int64)
        length += (byte & 127) << shift
    at = at + 1
    _expect((byte < 128) & (at + length <= ends))
    return at, at + length


def _read_lists(
    data: np.ndarray, begins: np.ndarray, stops: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the varints between begins and stops; returns all values and each list's length."""
    num_bytes = stops - begins
    ends = np.cumsum(num_bytes)
    indices = np.arange(ends[-1]) + np.repeat(begins - (ends - num_bytes), num_bytes)
    content = data[indices]
    is_last = content < 128
    num_before = np.concatenate([[0], np.cumsum(is_last)])
    _expect(is_last[ends[num_bytes > 0] - 1])  # no value continues in the next list
    return decode_varints(content, is_last), num_before[ends] - num_before[ends - num_bytes]


def decode_varints(content: np.ndarray, is_last: np.ndarray) -> np.ndarray:
    """Returns the values of concatenated varints, modulo 2^32, as int32."""
    lasts = np.flatnonzero(is_last)
    firsts = np.concatenate([[0], lasts[:-1] + 1]) if len(lasts) else lasts
    sizes = lasts - firsts + 1
    _expect(sizes <= 10)
    values = (content[firsts] & 127).astype(np.uint32)
    for number in range(1, 5):  # later bytes hold bits above the 32nd
        longer = np.flatnonzero(sizes > number)
        if not len(longer):
            break
        bits = (content[firsts[longer] + number] & 127).astype(np.uint32)
        values[longer] |= bits << np.uint32(7 * number)
    return values.view(np.int32)


def _expect(is_met: np.ndarray) -> None:
    if not is_met.all():
        raise UnusualExampleError
