"""Examples read all at once say what protobuf's own parser says of each."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from gshard_mt.data.examples import (
    UnusualExampleError,
    parse_examples,
)
from gshard_mt.data.records import parse_records, serialize

Example = tf_example_pb2.Example  # type: ignore[attr-defined]

_IDS = st.lists(st.one_of(st.integers(0, 40_000), st.integers(-(2**63), 2**63 - 1)), max_size=9)
_OTHER = st.sampled_from(["id", "domain", "weight", "sourc", "sources", "taxget"])
_RECORDS = st.tuples(_IDS, _IDS, st.lists(_OTHER, unique=True), st.permutations(range(8)))


def varint(value: int) -> bytes:
    value %= 1 << 64
    found = bytearray()
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    return bytes([*found, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(content)) + content


def ints(values, is_packed=True) -> bytes:
    if is_packed:
        content = field(1, b"".join(map(varint, values))) if values else b""
    else:
        content = b"".join(b"\x08" + varint(value) for value in values)
    return field(3, content)


def message(features: list[tuple[str, bytes]]) -> bytes:
    entries = [field(1, field(1, key.encode()) + field(2, feature)) for key, feature in features]
    return field(1, b"".join(entries))


def other_feature(key: str) -> bytes:
    example = Example()
    if key == "weight":
        example.features.feature[key].float_list.value.extend([0.5, 2.0])
    elif key == "domain":
        example.features.feature[key].bytes_list.value.append(b"source" * 50)
    else:
        example.features.feature[key].int64_list.value.append(2**40)
    return example.features.feature[key].SerializeToString()


def check(contents: list[bytes], columns) -> None:
    """Compares with protobuf, record by record."""
    ends = np.cumsum([columns.source_lengths, columns.target_lengths], axis=1)
    for number, content in enumerate(contents):
        feature = Example.FromString(content).features.feature
        for side, key in enumerate(("source", "target")):
            expected = np.array(feature[key].int64_list.value, np.int64).astype(np.int32)
            length = columns[2 * side + 1][number]
            found = columns[2 * side][ends[side][number] - length : ends[side][number]]
            assert found.tolist() == expected.tolist()
    assert ends[:, -1].tolist() == [len(columns.source), len(columns.target)]


@settings(deadline=None, max_examples=200)
@given(st.lists(_RECORDS, min_size=1, max_size=8))
def test_ids_are_those_that_protobuf_reads_in_any_order_of_features(records):
    contents = []
    for source, target, others, order in records:
        features = [("source", ints(source)), ("target", ints(target))]
        features += [(key, other_feature(key)) for key in others]
        contents.append(message([features[i] for i in order if i < len(features)]))
    check(contents, parse_records(contents))
    if all(source and target for source, target, _, _ in records):
        check(contents, parse_examples(contents))


def test_what_protobuf_writes_is_read_without_it():
    contents = []
    for number in range(300):
        example = Example()
        for key, size in (("id", 1), ("source", 1 + number), ("target", 1 + 3 * number)):
            values = (np.arange(size) * 977 + number) % 32_000
            example.features.feature[key].int64_list.value.extend(values.tolist())
        contents.append(example.SerializeToString(deterministic=number % 2 == 0))
    check(contents, parse_examples(contents))


_SOURCE, _TARGET = ("source", ints([5, 300])), ("target", ints([70_000]))
UNUSUAL = {
    "unpacked": message([("source", ints([5, 300], is_packed=False)), _TARGET]),
    "empty list": message([_SOURCE, ("target", ints([]))]),
    "no target": message([_SOURCE]),
    "twice": message([_SOURCE, _TARGET, ("source", ints([9]))]),
    "merged": message([_SOURCE, _TARGET]) + message([("target", ints([8]))]),
    "floats": message([("source", field(2, field(1, b"\0\0\0\0"))), _TARGET]),
    "in two parts": message([("source", field(3, field(1, b"\5") + field(1, b"\6"))), _TARGET]),
    "unknown field": message([_SOURCE, _TARGET]) + b"\x10\x01",
    "nothing": b"",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_example_is_left_to_protobuf(name):
    contents = [message([_TARGET, _SOURCE]), UNUSUAL[name], message([_SOURCE, _TARGET])]
    with pytest.raises(UnusualExampleError):
        parse_examples(contents)
    check(contents, parse_records(contents))


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 3))
def test_damaged_bytes_are_read_as_protobuf_reads_them_or_given_up(place, byte, cut):
    whole = message([_SOURCE, _TARGET])  # other features are stepped over unread
    damaged = bytearray(whole)
    damaged[place % len(whole)] = byte
    contents = [whole, bytes(damaged[: len(whole) - cut]), whole]
    try:
        columns = parse_examples(contents)
    except UnusualExampleError:
        return
    check(contents, columns)


def test_no_records_are_no_columns():
    assert [len(column) for column in parse_records([])] == [0, 0, 0, 0]


_COUNTED = st.lists(st.integers(0, 2**31 - 1), max_size=40)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**62), _COUNTED, _COUNTED)
def test_a_record_is_written_as_protobuf_writes_it_in_any_order_of_features(id, source, target):
    example = Example()
    for key, values in (("target", target), ("source", source), ("id", [id])):
        # Touched even where there is nothing in it, so that the list is there.
        example.features.feature[key].int64_list.SetInParent()
        example.features.feature[key].int64_list.value.extend(values)
    written = serialize(id, source, target)
    assert written == example.SerializeToString(deterministic=True)
    check([written], parse_records([written]))
