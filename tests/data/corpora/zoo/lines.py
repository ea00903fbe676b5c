"""Bad files of lines of text, whatever the format, and of two columns or two files."""
# SPDX-License-Identifier: Apache-2.0

import gzip
import lzma

import zstandard

from tests.data.corpora import samples
from tests.data.corpora.zoo.bad import MEBIBYTE, Bad, half

# Much text, so that its archives can be cut in the middle.
LONG = b"".join(b"%d Haus %d\t%d house\n" % (n, n * n, n**3) for n in range(3000))
# Lines that shrink to nothing.
BOMB = b"a\tb\n" + b"x" * (4 * MEBIBYTE)


def zst(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def text_files(scheme: str, name: str, good: bytes, first: bytes) -> dict[str, Bad]:
    """What may be wrong with a text file of any format; `first` is its first line."""
    utf_16 = good.decode().encode("utf-16-le")
    lone = first + b"\xed\xa0\x80\n"
    latin = first + "Ärger\n".encode("latin-1")
    return {
        "truncated gzip": Bad(
            scheme,
            f"{name}.gz",
            {f"{name}.gz": gzip.compress(good)[:-9]},
            "FILE: can't be read: .*ended before",
        ),
        "no gzip": Bad(
            scheme, f"{name}.gz", {f"{name}.gz": good}, "FILE: can't be read: Not a gzip"
        ),
        "no xz": Bad(
            scheme, f"{name}.xz", {f"{name}.xz": good}, "FILE: can't be read: Input format"
        ),
        "no zst": Bad(scheme, f"{name}.zst", {f"{name}.zst": good}, "FILE: can't be read: zstd"),
        "empty": Bad(scheme, name, {name: b""}, "no pairs|FILE:.*no element found"),
        "empty gzip": Bad(
            scheme, f"{name}.gz", {f"{name}.gz": gzip.compress(b"")}, "no pairs|no element found"
        ),
        "missing": Bad(scheme, name, {}, f"{name}: no such file"),
        "missing glob": Bad(scheme, f"*/{name}*", {}, rf"\*/{name}\*: no such file"),
        "folder": Bad(scheme, name, {name: None}, "FILE: found a directory, accepted: a file"),
        "dangling link": Bad(scheme, name, {name: "nowhere"}, "FILE: no such file"),
        "link to itself": Bad(scheme, name, {name: name}, "FILE: (no such file|can't be read)"),
        "NUL in the name": Bad(scheme, f"{name}\0", {}, "no such file"),
        "line end in the name": Bad(scheme, f"{name}\nx", {}, "no such file"),
        "utf-16 without mark": Bad(scheme, name, {name: utf_16}, "FILE:1: .*(UTF-16|XML)"),
        "lone surrogate in UTF-8": Bad(
            scheme, name, {name: lone}, "FILE:2: .*(UTF-8|invalid token)"
        ),
        "Latin-1": Bad(scheme, name, {name: latin}, "FILE:2: .*(UTF-8 at byte 1|invalid token)"),
    }


def bad_text() -> dict[str, Bad]:
    jsonl, row = samples.jsonl(), samples.jsonl().splitlines(keepends=True)[0]
    found = {}
    for scheme, name, good, first in (
        ("tsv", "a.tsv", samples.tsv(), b"a\tb\n"),
        ("jsonl", "a.jsonl", jsonl, row),
        ("tmx", "a.tmx", samples.tmx(), b'<?xml version="1.0"?>\n'),
    ):
        cases = text_files(scheme, name, good, first)
        found |= {f"{scheme}: {what}": bad for what, bad in cases.items()}
    return found


def tsv(said: str, content: bytes, name: str = "a.tsv") -> Bad:
    return Bad("tsv", name, {name: content}, said)


BAD_TSV = {
    "long truncated gzip": tsv(
        "FILE: can't be read: .*ended", half(gzip.compress(LONG)), "a.tsv.gz"
    ),
    "truncated xz": tsv("FILE: can't be read: .*ended", half(lzma.compress(LONG)), "a.tsv.xz"),
    "truncated zst": tsv("FILE: can't be read: .*middle of a zstd", half(zst(LONG)), "a.tsv.zst"),
    "damaged gzip": tsv(
        "FILE: can't be read", gzip.compress(LONG)[:500] + b"\xff" * 99, "a.tsv.gz"
    ),
    "gzip with a wrong sum": tsv(
        "FILE: can't.*CRC", gzip.compress(LONG)[:-8] + b"12345678", "a.gz"
    ),
    "gzip bomb": tsv("FILE:2: a line of more than", gzip.compress(BOMB), "a.tsv.gz"),
    "xz bomb": tsv("FILE:2: a line of more than", lzma.compress(BOMB), "a.tsv.xz"),
    "zst bomb": tsv("FILE:2: a line of more than", zst(BOMB), "a.tsv.zst"),
    "line too long": tsv("FILE:1: a line of more than 1048576 bytes", b"x" * (MEBIBYTE + 1)),
    "utf-16 le": tsv("FILE:1: looks like UTF-16; convert", "ä\tb\n".encode("utf-16")),
    "utf-16 be": tsv("FILE:1: looks like UTF-16", b"\xfe\xff" + "ä\tb\n".encode("utf-16-be")),
    "utf-32": tsv("FILE:1: looks like UTF-16", "ä\tb\n".encode("utf-32")),
    "bad UTF-8 at line 2": tsv("FILE:2: not UTF-8 at byte 3", b"a\tb\na\t\xff\n"),
    "one column": tsv("FILE:2: found 1 columns, accepted: 2", b"a\tb\nab\n"),
    "three columns": tsv("FILE:2: found 3 columns", b"a\tb\na\tb\tc\n"),
    "blank line": tsv("FILE:2: found 1 columns", b"a\tb\n\na\tb\n"),
    "a picture": tsv("FILE:1: not UTF-8 at byte 1", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "NULs only": tsv("FILE:1: found 1 columns", b"\0" * 100),
}


def moses(said: str, german: bytes | None, english: bytes | None, names="a.de,a.en") -> Bad:
    return Bad("moses", names, {"a.de": german, "a.en": english}, said)


BAD_MOSES = {
    "English is longer": moses(
        "FILE: 1 lines, but .*a.en has 3; accepted: equal counts", b"a\n", b"a\n" * 3
    ),
    "source is longer": moses("FILE: 4 lines, but .*a.en has 2", b"a\n" * 4, b"b\n" * 2),
    "English is empty": moses("FILE: 2 lines, but .*a.en has 0", b"a\n" * 2, b""),
    "source is empty": moses("FILE: 0 lines, but .*a.en has 2", b"", b"a\n" * 2),
    "both are empty": moses("a.de,a.en: no pairs", b"", b""),
    "one file": moses("moses:a.de: found 1 files, accepted: 2", b"a\n", b"a\n", "a.de"),
    "three files": moses("a.de,a.en,a.fr: found 3 files", b"a\n", b"a\n", "a.de,a.en,a.fr"),
    "no second name": moses("a.de,: found 2 files, accepted: 2", b"a\n", b"a\n", "a.de,"),
    "English first": moses("a.en: comes first but is named English", b"a\n", b"a\n", "a.en,a.de"),
    "missing English": moses("b.en: no such file", b"a\n", b"a\n", "a.de,b.en"),
    "folder": moses("FILE: found a directory", None, b"a\n"),
    "bad UTF-8": moses("a.en:2: not UTF-8", b"a\nb\n", b"a\n\xff\n"),
}
