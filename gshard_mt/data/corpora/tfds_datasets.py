"""`tfds:` translation datasets made by TFDS, given by folder or, with a network, by name."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import io
import logging
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow_datasets as tfds
import tensorflow_datasets.translate  # noqa: F401  flores and wmt* can be named from here on
from array_record.python import array_record_module  # type: ignore[attr-defined]
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.rows import SIDES, STRUCTS, read_rows
from gshard_mt.data.corpora.tags import ENGLISH, Tags
from gshard_mt.data.corpora.tfrecord import read_records
from gshard_mt.data.corpora.translate_folder import (
    SPLIT_NAMES,
    is_translate_folder,
    read_translate_folder,
)
from gshard_mt.documents import in_one_line
from gshard_mt.errors import DataError
from gshard_mt.storage.cache import local_folder

_EXAMPLE = tf_example_pb2.Example  # type: ignore[attr-defined]
_INFO = "dataset_info.json"
_BATCH_RECORDS = 1024  # in memory at a time
_NAME = re.compile(r"[a-z]\w*(/[\w.-]+)?(:[\w.*]+)?")
_OPUS_PAIR = re.compile(r"opus/(?P<subset>\w+):(?P<first>[a-z]\w+)-(?P<second>[a-z]\w+)")

Row = Callable[[Any], dict[str, Any]]


def read_tfds(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of a split, in the order of its files.

    `entry.location` is a folder made by TFDS, a folder of `<language>.<split>.txt` files, or a
    name: NAME, NAME/CONFIG, NAME:VERSION, `opus/SUBSET:de-en`. A name is looked up in TFDS's data
    directory (TFDS_DATA_DIR, ~/tensorflow_datasets) and made there if it is missing. Reading never
    needs TensorFlow; some builders do.
    """
    if entry.path.is_dir():
        if is_translate_folder(entry.path):
            yield from read_translate_folder(entry)
            return
        folder = _only_version(entry.path)
    elif entry.path.exists():
        raise DataError(f"{entry.path}: found a file, accepted: a folder that TFDS made, or a name")
    else:
        folder = _made_by_name(entry.location)
    try:
        info = tfds.builder_from_directory(local_folder(folder)).info
        splits, features = info.splits, info.features
        split = next((splits[name] for name in SPLIT_NAMES[entry.split] if name in splits), None)
        shards = list(zip(split.filepaths, split.shard_lengths, strict=True)) if split else []
        suffix = info.file_format.file_suffix if info.file_format else ""
    except Exception as error:  # TFDS reads JSON and imports the classes that it names
        raise DataError(f"{folder}: not a dataset of TFDS: {in_one_line(error)}") from None
    if split is None:
        raise DataError(
            f"{folder}: no split for {entry.split}; accepted: "
            f"{' or '.join(SPLIT_NAMES[entry.split])}; found: {', '.join(sorted(splits)[:12])}"
        )
    if suffix not in _FORMATS:
        raise DataError(f"{folder}: files of {suffix!r}; accepted: {', '.join(sorted(_FORMATS))}")
    tags = Tags(entry.languages, folder)
    yield from read_rows(_rows(_contents(shards, suffix), _row(features, tags, folder)), tags)


def _rows(contents: Iterator[tuple[str, bytes]], row: Row) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, content in contents:
        where = f"{place}: a damaged record"  # in errors
        try:
            yield where, row(_EXAMPLE.FromString(content).features.feature)
        except (DecodeError, UnicodeDecodeError, IndexError) as error:
            raise DataError(f"{where}: {in_one_line(error)}") from None


def _row(features: Any, tags: Tags, folder: pathlib.Path) -> Row:
    """Returns a function from an example's features to a row of rows.py with the wanted texts."""
    kinds = tfds.features
    if isinstance(features, kinds.FeaturesDict):
        for name in STRUCTS:
            if name in features and isinstance(features[name], kinds.TranslationVariableLanguages):
                return lambda example: {
                    name: {
                        "language": _texts(example[f"{name}/language"]),
                        "translation": _texts(example[f"{name}/translation"]),
                    }
                }
            if name in features and isinstance(features[name], kinds.FeaturesDict):
                features, prefix = features[name], f"{name}/"
                break
        else:
            prefix = ""
        texts = [name for name in features if isinstance(features[name], kinds.Text)]
        if set(SIDES) <= set(texts):
            return lambda example: {name: _texts(example[prefix + name])[0] for name in SIDES}
        is_named = prefix or isinstance(features, kinds.Translation) or not tags.is_any
        keys = {name: prefix + name for name in texts if is_named and tags[name] is not None}
        if {tags[name] == ENGLISH for name in keys} == {True, False}:
            return lambda example: {
                "translation": {name: _texts(example[key])[0] for name, key in keys.items()}
            }
    found = ", ".join(sorted(features)[:12]) if hasattr(features, "keys") else str(features)
    wanted = "each" if tags.is_any else " or ".join(tags.languages[:12])
    raise DataError(
        f"{folder}: no translations of {wanted} in its features; found: {' '.join(found.split())}; "
        "accepted: Translation, TranslationVariableLanguages, Text named source and target or by "
        "language codes"
    )


def _texts(feature: Any) -> list[str]:
    # Some builders leave line ends in the text.
    return [value.decode().rstrip("\r\n") for value in feature.bytes_list.value]


def _contents(shards: list[tuple[Any, int]], suffix: str) -> Iterator[tuple[str, bytes]]:
    for path, length in shards:
        num_records = 0
        for content in _FORMATS[suffix](pathlib.Path(path)):
            num_records += 1
            yield f"{path}: record {num_records}", content
        if num_records != length:
            raise DataError(f"{path}: {num_records} records, {_INFO} says {length}; make it again")


def _array_records(path: pathlib.Path) -> Iterator[bytes]:
    if not path.is_file():  # the library would wait for it
        raise DataError(f"{path}: no such file")
    try:
        reader = array_record_module.ArrayRecordReader(str(path), "readahead_buffer_size:0")
        for start in range(0, reader.num_records(), _BATCH_RECORDS):
            yield from reader.read(start, min(start + _BATCH_RECORDS, reader.num_records()))
        reader.close()
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        raise DataError(f"{path}: can't be read: {in_one_line(error)}") from None


_FORMATS = {"array_record": _array_records, "tfrecord": read_records}


def _only_version(folder: pathlib.Path) -> pathlib.Path:
    """Returns the dataset's folder below NAME or NAME/CONFIG if there is exactly one version."""
    found = {
        path.parent
        for depth in ("", "*/", "*/*/")
        for path in folder.glob(depth + _INFO)
        if not path.parent.name.startswith("incomplete.")
    }
    if len(found) == 1:
        return found.pop()
    if found:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in found)[:12])
        raise DataError(f"{folder}: {len(found)} datasets in it; name one of {names}")
    if any(folder.rglob("incomplete.*")):
        raise DataError(f"{folder}: TFDS has not finished it; make the dataset again")
    raise DataError(
        f"{folder}: no {_INFO} in it and no <language>.<split>.txt; "
        "accepted: a folder that TFDS made, or one of such text files"
    )


def _made_by_name(name: str) -> pathlib.Path:
    pair = _OPUS_PAIR.fullmatch(name)
    if not pair and not _NAME.fullmatch(name):
        raise DataError(f"tfds:{name}: no such folder, nor can it be a dataset's name")
    try:
        # Standard error is for our own errors, not for TFDS's look-ups and retries.
        for logger in ("absl", "urllib3"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            arguments = _opus(pair) if pair else {"name": name}
            builder = tfds.builder(**arguments, try_gcs=False)
            if not (pathlib.Path(builder.data_dir) / _INFO).is_file():
                builder = tfds.builder(**arguments, try_gcs=False, file_format="array_record")
                download = tfds.download.DownloadConfig(try_download_gcs=False)
                builder.download_and_prepare(download_config=download)
            return pathlib.Path(builder.data_dir)
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"tfds:{name}: no such folder, and TFDS has no dataset of that name"
        ) from None
    except ModuleNotFoundError as error:
        raise DataError(
            f"tfds:{name}: its builder needs the package {error.name}, which is not installed; "
            "make the dataset where it is and name its folder"
        ) from None
    except Exception as error:  # builders are third-party code, and most fetch files
        raise DataError(
            f"tfds:{name}: TFDS can't make it: {in_one_line(error)}; check the network, or name a "
            "folder of a machine that could"
        ) from None


def _opus(pair: re.Match[str]) -> dict[str, Any]:
    """Returns the builder's arguments for a subset of OPUS; TFDS's own configs are all de-en."""
    builder = tfds.builder_cls("opus")
    configs = {config.name: config for config in builder.BUILDER_CONFIGS}
    if pair["subset"] not in configs:
        raise ValueError(f"no such subset; accepted: {', '.join(sorted(configs))}")
    config = configs[pair["subset"]]
    languages = tuple(sorted((pair["first"], pair["second"])))
    return {
        "name": "opus",
        "config": type(config)(
            name=f"{config.name}_{'_'.join(languages)}",
            version=config.version,
            language_pair=languages,
            subsets=config.subsets,
        ),
    }
