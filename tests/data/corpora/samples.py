"""Small files of every format with the same three pairs, to be read, broken and fuzzed."""
# SPDX-License-Identifier: Apache-2.0

import io
import json
import pathlib
import struct
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.readers import SCHEMES
from gshard_mt.data.corpora.tfrecord import masked_crc

PAIRS = [("Haus", "house"), ("Ärger", "anger"), ("zwei Wörter", "two words")]
GERMAN = [Pair("de", source, english) for source, english in PAIRS]


def entry(folder, scheme, location, languages=("de",), split="train", sha256="") -> Entry:
    return Entry(tuple(languages), split, scheme, location, "CC0-1.0", sha256, folder)


def read(folder, scheme, location, languages=("de",), split="train", sha256="") -> list[Pair]:
    given = entry(folder, scheme, location, languages, split, sha256)
    return list(SCHEMES[scheme].read(given))


def tsv() -> bytes:
    return "".join(f"{source}\t{english}\n" for source, english in PAIRS).encode()


def column(index: int) -> bytes:
    return "".join(f"{pair[index]}\n" for pair in PAIRS).encode()


def jsonl() -> bytes:
    rows = [{"translation": {"de": source, "en": english}} for source, english in PAIRS]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def tmx(body: str | None = None, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> bytes:
    units = "".join(unit(de=source, en=english) for source, english in PAIRS)
    return f'{head}\n<tmx version="1.4"><header/><body>\n{body or units}</body></tmx>\n'.encode()


def unit(**texts: str) -> str:
    variants = (
        f'<tuv xml:lang="{language}"><seg>{text}</seg></tuv>\n' for language, text in texts.items()
    )
    return f"<tu>\n{''.join(variants)}</tu>\n"


def parquet(columns: dict | None = None) -> bytes:
    rows = [{"de": source, "en": english} for source, english in PAIRS]
    file = io.BytesIO()
    pq.write_table(pa.table({"translation": rows} if columns is None else columns), file)
    return file.getvalue()


def po(body: str | None = None, header: str = "") -> bytes:
    messages = "".join(f'msgid "{english}"\nmsgstr "{source}"\n\n' for source, english in PAIRS)
    head = f'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n{header}\n\n'
    return (head + (messages if body is None else body)).encode()


def mo(messages: dict[bytes, bytes] | None = None) -> bytes:
    if messages is None:
        messages = {english.encode(): source.encode() for source, english in PAIRS}
    messages = {b"": b"Content-Type: text/plain; charset=UTF-8\n", **messages}
    texts, tables, place = b"", [b"", b""], 28 + 16 * len(messages)
    for side, strings in enumerate((messages.keys(), messages.values())):
        for string in strings:
            tables[side] += struct.pack("<2I", len(string), place + len(texts))
            texts += string + b"\0"
    second = 28 + 8 * len(messages)
    head = struct.pack("<7I", 0x950412DE, 0, len(messages), 28, second, 0, 0)
    return head + b"".join(tables) + texts


def archive(members: dict[str, bytes], **options) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **options) as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file.getvalue()


def wheel() -> bytes:
    sides = {"de": 0, "en": 1}
    return archive(
        {
            f"lamp/translations/{language}.json": json.dumps(
                {str(number): pair[side] for number, pair in enumerate(PAIRS)}
            ).encode()
            for language, side in sides.items()
        }
    )


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A dataset of TFDS as it makes them itself."""

    name = "lamp"
    VERSION = tfds.core.Version("1.0.0")
    features: tfds.features.FeaturesDict = tfds.features.Translation(languages=("de", "en"))
    rows: list[dict] = [{"de": source, "en": english} for source, english in PAIRS]

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, description="x", features=self.features)

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples() for split in ("train", "validation")}

    def _generate_examples(self):
        yield from enumerate(self.rows)


def dataset(folder: pathlib.Path, features=None, rows=()) -> pathlib.Path:
    """Makes the dataset; returns its folder, NAME/VERSION below the one given."""

    class Lamp(Builder, skip_registration=True):
        name = "lamp"

    if features is not None:
        Lamp.features, Lamp.rows = features, list(rows)
    builder = Lamp(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


def tfrecord(records: list[bytes]) -> bytes:
    content = b""
    for record in records:
        length = struct.pack("<Q", len(record))
        content += length + struct.pack("<I", masked_crc(length)) + record + b"\0\0\0\0"
    return content


def example(**texts: str) -> bytes:
    record = tf_example_pb2.Example()  # type: ignore[attr-defined]
    for key, text in texts.items():
        record.features.feature[key].bytes_list.value.append(text.encode())
    return record.SerializeToString()
