"""Bad datasets of TFDS and folders of text files by language."""
# SPDX-License-Identifier: Apache-2.0

import json

from tests.data.corpora import samples
from tests.data.corpora.zoo.bad import Bad


def info(**changes) -> bytes:
    values = {
        "name": "lamp",
        "version": "1.0.0",
        "fileFormat": "array_record",
        "moduleName": "x",
        "splits": [
            {
                "name": "train",
                "shardLengths": ["3"],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        ],
    }
    return json.dumps({**values, **changes}).encode()


_KINDS = "tensorflow_datasets.core.features"
_TEXT = {"pythonClassName": f"{_KINDS}.text_feature.Text", "text": {}}
_NUMBER = {
    "pythonClassName": f"{_KINDS}.scalar.Scalar",
    "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"},
}


def features(**kinds) -> bytes:
    found = {"features": kinds or {"de": _TEXT, "en": _TEXT}}
    name = f"{_KINDS}.features_dict.FeaturesDict"
    return json.dumps({"pythonClassName": name, "featuresDict": found}).encode()


SHARD = "t/lamp-train.tfrecord-00000-of-00001"
_ARRAY = "t/lamp-train.array_record-00000-of-00001"
_RECORDS = [samples.example(de=source, en=english) for source, english in samples.PAIRS]


def made(said: str, content: bytes | None, features_json: bytes = b"", **changes) -> Bad:
    """A dataset of TFRecord files, which can be written without TFDS."""
    files = {
        "t": None,
        "t/dataset_info.json": info(fileFormat="tfrecord", **changes),
        "t/features.json": features_json or features(),
    }
    return Bad("tfds", "t", files if content is None else {**files, SHARD: content}, said)


_DOCUMENTS = {"de.train.txt": b"a\n", "en.train.txt": b"b\n"}


def folder(said: str, languages=("de",), **files: bytes | None) -> Bad:
    names = {f"t/{name.replace('_', '.')}.txt": content for name, content in files.items()}
    return Bad("tfds", "t", {"t": None, **names}, said, languages)


BAD_TFDS = {
    "an empty folder": Bad("tfds", "t", {"t": None}, "FILE: no dataset_info.json in it"),
    "no dataset": Bad("tfds", "t", {"t": None, "t/x.csv": b"a"}, "FILE: no dataset_info.json"),
    "a file": Bad("tfds", "t", {"t": b"x"}, "FILE: found a file, accepted: a folder"),
    "unfinished": Bad(
        "tfds",
        "t",
        {
            "t": None,
            "t/incomplete.ABC_1.0.0": None,
            "t/incomplete.ABC_1.0.0/dataset_info.json": info(),
        },
        "FILE: TFDS has not finished it",
    ),
    "two versions": Bad(
        "tfds",
        "t",
        {"t": None, "t/1.0.0/dataset_info.json": info(), "t/2.0.0/dataset_info.json": info()},
        "FILE: 2 datasets in it; name one of 1.0.0, 2.0.0",
    ),
    "no JSON": Bad(
        "tfds", "t", {"t": None, "t/dataset_info.json": b"{"}, "FILE: not a dataset of TFDS"
    ),
    "no features": Bad(
        "tfds", "t", {"t": None, "t/dataset_info.json": info()}, "FILE: not a dataset"
    ),
    "features of nothing known": made(
        "FILE: not a dataset", b"", b'{"pythonClassName": "no.such.X"}'
    ),
    "wrong features": made(
        "FILE: no translations of de in its features; found: id, text",
        samples.tfrecord(_RECORDS),
        features(text=_TEXT, id=_NUMBER),
    ),
    "no such split": made(
        "FILE: no split for train; accepted: train; found: extra",
        samples.tfrecord(_RECORDS),
        splits=[{"name": "extra", "shardLengths": ["3"], "filepathTemplate": "{DATASET}"}],
    ),
    "missing shard": made(f"{SHARD}: no such file", None),
    "another format": Bad(
        "tfds",
        "t",
        {
            "t": None,
            "t/dataset_info.json": info(fileFormat="riegeli"),
            "t/features.json": features(),
        },
        "FILE: files of 'riegeli'; accepted: array_record, tfrecord",
    ),
    "TFRecord: fewer records": made(
        f"{SHARD}: 2 records, .* says 3", samples.tfrecord(_RECORDS[:2])
    ),
    "TFRecord: cut short": made(
        f"{SHARD}: can't be read: .*middle", samples.tfrecord(_RECORDS)[:-3]
    ),
    "TFRecord: damaged length": made(
        f"{SHARD}: can't be read: the length", b"\x07" + samples.tfrecord(_RECORDS)[1:]
    ),
    "TFRecord: no record": made(f"{SHARD}: can't be read: the length", b"hello, world, hello"),
    "TFRecord: no example": made(
        f"{SHARD}: record 1: a damaged", samples.tfrecord([b"\xff" * 9] * 3)
    ),
    "TFRecord: no English": made(
        f"{SHARD}: record 1: a damaged", samples.tfrecord([samples.example(de="x")] * 3)
    ),
    "TFRecord: bad UTF-8": made(
        f"{SHARD}: record 3: .*utf-8",
        samples.tfrecord([*_RECORDS[:2], _RECORDS[0].replace(b"Haus", b"Ha\xff\xfe")]),
    ),
    "ArrayRecord: missing": Bad(
        "tfds",
        "t",
        {"t": None, "t/dataset_info.json": info(), "t/features.json": features()},
        f"{_ARRAY}: no such file",
    ),
    "ArrayRecord: none": Bad(
        "tfds",
        "t",
        {
            "t": None,
            "t/dataset_info.json": info(),
            "t/features.json": features(),
            _ARRAY: b"x" * 5000,
        },
        f"{_ARRAY}: (0 records|can't be read)",
    ),
    "ArrayRecord: empty": Bad(
        "tfds",
        "t",
        {"t": None, "t/dataset_info.json": info(), "t/features.json": features(), _ARRAY: b""},
        f"{_ARRAY}: (0 records|can't be read)",
    ),
    "text folder: no English": folder("FILE: no English of the split train", de_train=b"a\n"),
    "text folder: no split": folder(
        "no English of the split train.*found: test", de_test=b"", en_test=b""
    ),
    "text folder: other language": folder(
        "FILE: no pairs of cs and English.*de, en", ("cs",), de_train=b"a\n", en_train=b"b\n"
    ),
    "text folder: lengths": folder(
        "de.train.txt: 1 lines, but .*en.train.txt has 2", de_train=b"a\n", en_train=b"b\n" * 2
    ),
    "text folder: empty": folder("tfds:t: no pairs", de_train=b"", en_train=b""),
    "no name": Bad("tfds", "../Not a name", {}, "no such folder, nor can it be a dataset's name"),
    "unknown name": Bad(
        "tfds", "no_such_dataset", {}, "tfds:no_such_dataset: .*no dataset of that name"
    ),
    "unknown config": Bad(
        "tfds", "para_crawl/xxyy", {}, "tfds:para_crawl/xxyy: TFDS can't make it: "
    ),
    "unknown subset of OPUS": Bad("tfds", "opus/novels:de-en", {}, "no such subset; accepted: IT"),
}
