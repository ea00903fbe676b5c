"""Records are the Examples that protobuf and TFDS read, in whatever order their features come."""
# SPDX-License-Identifier: Apache-2.0

from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from gshard_mt.data.records import Record, parse, serialize

Example = tf_example_pb2.Example  # type: ignore[attr-defined]

_IDS = st.lists(st.integers(0, 2**31 - 1), max_size=40)
_RECORDS = st.builds(Record, st.integers(0, 2**62), _IDS, _IDS)


@settings(deadline=None, max_examples=200)
@given(_RECORDS)
def test_a_record_is_written_as_protobuf_writes_it_and_read_back(record):
    example = Example()
    for key, values in (("target", record.target), ("source", record.source), ("id", [record.id])):
        example.features.feature[key].int64_list.SetInParent()
        example.features.feature[key].int64_list.value.extend(values)
    assert serialize(record) == example.SerializeToString(deterministic=True)
    assert parse(serialize(record)) == record


@settings(deadline=None, max_examples=50)
@given(_RECORDS, st.permutations(["id", "source", "target", "domain", "weight"]))
def test_other_features_in_any_order_change_nothing(record, keys):
    # Messages that are concatenated are merged: each of these adds a feature.
    whole = b""
    for key in keys:
        example = Example()
        if key == "domain":
            example.features.feature[key].bytes_list.value.append(b"source" * 50)
        elif key == "weight":
            example.features.feature[key].float_list.value.extend([0.5, 2.0])
        else:
            values = [record.id] if key == "id" else getattr(record, key)
            example.features.feature[key].int64_list.value.extend(values)
        whole += example.SerializeToString()
    assert parse(whole) == record
