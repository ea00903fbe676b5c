"""Records: a language pair's splits as a TFDS dataset in ArrayRecord files, read by index."""
# SPDX-License-Identifier: Apache-2.0

import errno
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from array_record.python import array_record_module  # type: ignore[attr-defined]

from gshard_mt.data.examples import Columns, UnusualExampleError, parse_examples
from gshard_mt.documents import draft_of
from gshard_mt.errors import DataError
from gshard_mt.storage.cache import local_copies

_SUFFIX = "array_record"
# Threads and buffers would make reading a single record a thousand times slower.
_RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"


class Record(NamedTuple):
    """A sentence pair as subword ids: 1-D int32, without BOS, EOS or padding."""

    source: np.ndarray
    target: np.ndarray


class ShardInfo(NamedTuple):
    """One file of a split: its current path and its size."""

    path: pathlib.Path
    num_records: int
    num_bytes: int


def serialize(id: int, source: Sequence[int], target: Sequence[int]) -> bytes:
    """Returns a record as a `tf.train.Example`: the same bytes on every machine."""
    example = _example_class()()
    for key, values in (("id", [id]), ("source", source), ("target", target)):
        numbers = example.features.feature[key].int64_list
        numbers.SetInParent()  # present even if it is empty
        numbers.value.extend(values)
    return example.SerializeToString(deterministic=True)


def write_shard(path: pathlib.Path, contents: Iterable[bytes]) -> ShardInfo:
    """Writes serialized records to an ArrayRecord file as they are produced.

    Raises OSError if the disk is full.
    """
    num_records = num_bytes = 0
    try:
        with draft_of(path) as draft:
            # To read one record its whole group is decompressed. Groups of 16 are as fast as groups
            # of one, and the index, which readers keep in memory, has one entry per group.
            writer = array_record_module.ArrayRecordWriter(str(draft), "group_size:16")
            for content in contents:
                num_records += 1
                num_bytes += len(content)
                writer.write(content)
            writer.close()
    except RuntimeError as error:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number)) from None
        raise
    return ShardInfo(path, num_records, num_bytes)


def write_dataset(
    folder: pathlib.Path, splits: Mapping[str, Sequence[ShardInfo]], description: str
) -> None:
    """Makes one language pair's dataset from its shards, for `tfds.builder_from_directory`.

    Shards are moved into it; empty shards and splits are left out. Without any record there is no
    dataset.
    """
    if not any(shard.num_records for shards in splits.values() for shard in shards):
        return
    import tensorflow_datasets as tfds  # here, because reading does without its 0.3 s of imports

    folder.mkdir(parents=True, exist_ok=True)
    name = folder.name.replace("-", "_").lower()
    infos = []
    for split, shards in splits.items():
        shards = [shard for shard in shards if shard.num_records]
        if not shards:
            continue
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder,  # type: ignore[arg-type]
            dataset_name=name,
            split=split,
            filetype_suffix=_SUFFIX,
        )
        for number, shard in enumerate(shards):
            path = template.sharded_filepath(shard_index=number, num_shards=len(shards))
            os.replace(shard.path, str(path))
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[shard.num_records for shard in shards],
                num_bytes=sum(shard.num_bytes for shard in shards),
                filename_template=template,
            )
        )
    ids = tfds.features.Tensor(shape=(None,), dtype=np.int32)
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(
            {"id": tfds.features.Scalar(np.int64), "source": ids, "target": ids}
        ),
        split_infos=infos,
        description=description,
        check_data=False,
    )


class RecordReader:
    """Random access to the records of one split of a language pair.

    Reads ArrayRecord files and protocol buffers directly, many times faster than a TFDS data
    source, which starts threads for every read and builds a dict for every record.
    """

    def __init__(self, folder: pathlib.Path, split: str):
        name = folder.name.replace("-", "_").lower()
        paths = sorted(folder.glob(f"{name}-{split}.{_SUFFIX}-*-of-*"))
        if not paths:
            raise DataError(f"{folder}: no records of split {split!r}")
        self._where = f"{folder}: split {split!r}"
        try:
            self._shards = [
                array_record_module.ArrayRecordReader(str(path), _RANDOM_ACCESS)
                for path in local_copies(paths)
            ]
            lengths = [shard.num_records() for shard in self._shards]
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise DataError(f"{self._where} can't be read: {error}") from None
        self._starts = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int] | np.ndarray) -> list[Record]:
        """Returns the records at the indices, in that order."""
        columns = parse_records(self.read_contents(indices))
        source = np.split(columns.source, np.cumsum(columns.source_lengths)[:-1])
        target = np.split(columns.target, np.cumsum(columns.target_lengths)[:-1])
        return [Record(*sides) for sides in zip(source, target, strict=True)][: len(indices)]

    def read_contents(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        """Returns the records at the indices, in that order, as they are on disk."""
        order = np.asarray(indices, np.int64)
        shard_of = np.searchsorted(self._starts, order, side="right") - 1
        inside = (order - self._starts[shard_of]).tolist()
        contents = []
        try:
            # One by one: a call for several records builds lists as long as the whole shard.
            for number, index in zip(shard_of.tolist(), inside, strict=True):
                shard = self._shards[number]
                shard.seek(index)
                contents.append(shard.read())
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise DataError(f"{self._where} can't be read: {error}") from None
        return contents


def parse_records(contents: Sequence[bytes]) -> Columns:
    """Returns the token ids of serialized records."""
    if not contents:
        return Columns(*np.zeros((4, 0), np.int32))
    try:
        return parse_examples(contents)
    except UnusualExampleError:
        return _parse_plainly(contents)


def record_id(content: bytes) -> int:
    """Returns the `id` of a serialized record."""
    return _parse_example(content)["id"].int64_list.value[0]


def _parse_plainly(contents: Sequence[bytes]) -> Columns:
    """Does the same as `parse_examples` for any layout, with protobuf, slowly."""
    sides = []
    for key in Record._fields:
        lists = [_parse_example(each)[key].int64_list for each in contents]
        values = [np.array(each.value, np.int64).astype(np.int32) for each in lists]
        sides += [np.concatenate(values), np.array([len(each) for each in values], np.int64)]
    return Columns(*sides)


def _parse_example(content: bytes) -> Any:
    """Returns the features of a serialized `tf.train.Example` by name."""
    return _example_class().FromString(content).features.feature


@functools.cache
def _example_class() -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example  # type: ignore[attr-defined]
