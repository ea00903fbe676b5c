"""Bad tables: JSON lines and Parquet files of another shape, or of none."""
# SPDX-License-Identifier: Apache-2.0

import json
import struct

import pyarrow as pa

from tests.data.corpora import samples
from tests.data.corpora.zoo.bad import MEBIBYTE, Bad, half


def rows(said: str, content: bytes | str | list, languages=("de",)) -> Bad:
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    content = content if isinstance(content, bytes) else content.encode()
    return Bad("jsonl", "a.jsonl", {"a.jsonl": content}, said, languages)


_GOOD_ROW = {"translation": {"de": "Haus", "en": "house"}}

BAD_JSONL = {
    "bad JSON at line 3": rows(
        "FILE:3: not JSON: Expect", samples.jsonl().replace(b'"two', b"two")
    ),
    "array": rows("FILE:2: a JSON list is not a row; accepted", [_GOOD_ROW, ["Haus", "house"]]),
    "number": rows("FILE:1: a JSON int is not a row", [7]),
    "one document": rows("FILE:1: not JSON", json.dumps([_GOOD_ROW], indent=1)),
    "two rows in a line": rows("FILE:1: not JSON: Extra data", json.dumps(_GOOD_ROW) * 2),
    "missing keys": rows(
        "FILE:2: no translation in it, it has .*'text'", [_GOOD_ROW, {"text": "x"}]
    ),
    "no English": rows(
        "FILE:1: no English in 'translation', it has", [{"translation": {"de": "x"}}]
    ),
    "another language": rows("FILE: no pairs of cs and English", [_GOOD_ROW], ("cs",)),
    "a number for text": rows(
        "FILE:1: 'de': found int, accepted: a string", [{"de": 3, "en": "x"}]
    ),
    "a list for text": rows(
        "FILE:1: 'de': found list", [{"translation": {"de": ["x"], "en": "x"}}]
    ),
    "a number for source": rows("FILE:1: 'source': found float", [{"source": 1.5, "target": "x"}]),
    "unequal lists": rows(
        "FILE:1: 'language' and 'translation' are not lists of one length",
        [{"translations": {"language": ["de"], "translation": []}}],
    ),
    "tags that are none": rows(
        "FILE:1: 'language' has an item",
        [{"translations": {"language": [1, "en"], "translation": ["a", "b"]}}],
    ),
    "two languages and no name": rows(
        "FILE: doesn't say which language", [{"source": "x", "target": "y"}], ("de", "fr")
    ),
    "any language by column": rows(
        'FILE:1: "\\*" needs a translation', [{"de": "x", "en": "y"}], ("*",)
    ),
    "nested without end": rows("FILE:1: not JSON", '{"a":' + "[" * 200_000),
    "a number without end": rows("FILE:1: not JSON", '{"de": ' + "9" * 10_000 + "}"),
    "blank lines": rows("FILE: no pairs", "\n\n\n"),
    "line too long": rows("FILE:1: a line of more", b'{"de": "' + b"x" * MEBIBYTE + b'"}'),
}


def table(said: str, content: bytes | dict | None, languages=("de",)) -> Bad:
    content = samples.parquet(content) if isinstance(content, dict) else content
    return Bad("parquet", "a.parquet", {"a.parquet": content}, said, languages)


_NOT_UTF_8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(struct.pack("<2i", 0, 2)), pa.py_buffer(b"\xff\xfe")]
)

BAD_PARQUET = {
    "another schema": table(
        r"FILE: no translations of de.*found: text \(string\), n \(int64\); accepted",
        {"text": ["x"], "n": [1]},
    ),
    "wrong types": table(r"FILE:.*found: de \(int64\), en \(string\)", {"de": [1], "en": ["x"]}),
    "translation of text": table("FILE:.*found: translation", {"translation": ["Haus"]}),
    "struct of numbers": table(
        "FILE: row 1: 'de': found int", {"translation": [{"de": 1, "en": "x"}]}
    ),
    "struct without English": table("FILE: row 1: no English", {"translation": [{"de": "x"}]}),
    "another language": table("FILE:.*no translations of cs", {"de": ["x"], "en": ["y"]}, ("cs",)),
    "any language by column": table(
        "FILE:.*translations of each", {"de": ["x"], "en": ["y"]}, ("*",)
    ),
    "nulls only": table("FILE: no pairs", {"translation": [{"de": None, "en": "x"}]}),
    "bad UTF-8": table(
        "FILE: after row 0: text that is not UTF-8", {"de": _NOT_UTF_8, "en": ["x"]}
    ),
    "no columns": table("FILE:.*no translations", {}),
    "no rows": table(
        "no pairs", {"de": pa.array([], pa.string()), "en": pa.array([], pa.string())}
    ),
    "truncated": table("FILE: not a readable Parquet", half(samples.parquet())),
    "not Parquet": table("FILE: not a readable Parquet", b"de,en\nHaus,house\n" * 9),
    "empty": table("FILE: not a readable Parquet", b""),
    "damaged page": table(
        "FILE: not a readable Parquet",
        samples.parquet()[:20] + b"\xff" * 40 + samples.parquet()[60:],
    ),
    "folder": table("FILE: found a directory", None),
    "missing": Bad("parquet", "b.parquet", {}, "b.parquet: no such file"),
}
