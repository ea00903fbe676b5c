"""MO files, the compiled form of gettext catalogs, parsed from untrusted bytes."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

from gshard_mt.data.corpora.charsets import codec_of

_HEADER = 20  # bytes: magic, version, number of strings, where their two tables are
_MORE_HEADER = 28  # offset of the header fields that version 0.1 adds, for system-dependent strings
_LAST_PART = 0xFFFFFFFF
_MAX_NAME_BYTES = 64  # of a system-dependent part
_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}


class Message(NamedTuple):
    """An English message and its translation; there is one form if `plural` is empty."""

    singular: str
    plural: str
    forms: list[str]


def parse_mo(content: bytes) -> Iterator[Message]:
    """Yields the messages; a first one with an empty singular is the catalog's header.

    Messages with parts that differ between systems have them as in PO files: `%<PRIu64> bytes`.
    Raises ValueError.
    """
    order = _MAGIC.get(content[:4])
    if order is None or len(content) < _HEADER:
        raise ValueError("the first bytes are not those of a MO file")
    version, num_strings, originals, translations = struct.unpack_from(f"{order}4I", content, 4)
    if version >> 16 > 1:
        raise ValueError(f"version {version >> 16}; accepted: 0 or 1")
    charset, num_bytes = "utf-8", 0
    strings = (
        (
            _string(content, originals + 8 * at, order),
            _string(content, translations + 8 * at, order),
        )
        for at in range(num_strings)
    )
    more = _system_dependent(content, order) if version & 0xFFFF else ()
    for index, (original, translation) in enumerate(itertools.chain(strings, more)):
        num_bytes += len(original) + len(translation)
        if num_bytes > len(content):  # or a small file could hold gigabytes
            raise ValueError("its strings overlap")
        if index == 0 and not original:
            charset = charset_of(translation)
        # A context comes before the message, ended by EOT.
        texts = original.decode(charset).rpartition("\x04")[2].split("\0")
        plural = texts[1] if len(texts) > 1 else ""
        yield Message(texts[0], plural, translation.decode(charset).split("\0"))


def charset_of(header: bytes) -> str:
    """Returns the encoding named in a catalog's header, by default UTF-8.

    Raises ValueError if it isn't a text encoding.
    """
    start = header.lower().find(b"charset=")
    if start < 0:
        return "utf-8"
    name = header[start + 8 : start + 48].split()[:1]
    charset = name[0].partition(b"\\n")[0].strip(b'"').decode("ascii", "replace") if name else ""
    if charset in ("", "CHARSET"):  # a template's
        return "utf-8"
    return codec_of(charset)


def _string(content: bytes, at: int, order: str) -> bytes:
    if at + 8 > len(content):
        raise ValueError("a table leads beyond the end of the file")
    length, offset = struct.unpack_from(f"{order}2I", content, at)
    if offset + length > len(content):
        raise ValueError("a string leads beyond the end of the file")
    return content[offset : offset + length]


def _system_dependent(content: bytes, order: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields the messages and translations that have parts such as `<PRIu64>`."""
    num_names, names, num_strings, *tables = _numbers(content, _MORE_HEADER, 5, order)
    parts = []
    for index in range(num_names):
        name = _string(content, names + 8 * index, order).removesuffix(b"\0")
        if len(name) > _MAX_NAME_BYTES:
            raise ValueError("the name of a system-dependent part is too long")
        # The flag I of glibc's printf is a letter of the format, not a macro.
        parts.append(name if name == b"I" else b"<%s>" % name)
    for index in range(num_strings):
        (original,), (translation,) = (
            _numbers(content, table + 4 * index, 1, order) for table in tables
        )
        yield (
            _joined(content, original, parts, order),
            _joined(content, translation, parts, order),
        )


def _joined(content: bytes, at: int, parts: list[bytes], order: str) -> bytes:
    """Returns a string that is stored as pieces of text with a system-dependent part in between."""
    (offset,) = _numbers(content, at, 1, order)
    text = bytearray()
    while len(text) <= len(content):
        at += 8
        length, part = _numbers(content, at - 4, 2, order)
        if offset + length > len(content):
            raise ValueError("a string leads beyond the end of the file")
        text += content[offset : offset + length]
        offset += length
        if part == _LAST_PART:
            return bytes(text.removesuffix(b"\0"))
        if part >= len(parts):
            raise ValueError("a system-dependent part is missing")
        text += parts[part]
    raise ValueError("its strings overlap")


def _numbers(content: bytes, at: int, number: int, order: str) -> tuple[int, ...]:
    if at + 4 * number > len(content):
        raise ValueError("a table leads beyond the end of the file")
    return struct.unpack_from(f"{order}{number}I", content, at)
