"""MO files, the compiled form of gettext catalogs, parsed from untrusted bytes."""
# SPDX-License-Identifier: Apache-2.0

import struct
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = 20  # bytes: magic, version, number of strings, where their two tables are
_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}


class Message(NamedTuple):
    """An English message and its translation; there is one form if `plural` is empty."""

    singular: str
    plural: str
    forms: list[str]


def parse_mo(content: bytes) -> Iterator[Message]:
    """Yields the messages; a first one with an empty singular is the catalog's header.

    polib reads MO files only from disk and trusts their offsets. Raises ValueError.
    """
    order = _MAGIC.get(content[:4])
    if order is None or len(content) < _HEADER:
        raise ValueError("the first bytes are not those of a MO file")
    version, num_strings, originals, translations = struct.unpack_from(f"{order}4I", content, 4)
    if version >> 16 > 1:
        raise ValueError(f"version {version >> 16}; accepted: 0 or 1")
    charset, num_bytes = "utf-8", 0
    for index in range(num_strings):
        original, translation = (
            _string(content, table + 8 * index, order) for table in (originals, translations)
        )
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
    try:
        b"a".decode(charset)
    except (LookupError, UnicodeError):
        raise ValueError(f"charset is {charset!r}; accepted: an encoding such as UTF-8") from None
    return charset


def _string(content: bytes, at: int, order: str) -> bytes:
    if at + 8 > len(content):
        raise ValueError("a table leads beyond the end of the file")
    length, offset = struct.unpack_from(f"{order}2I", content, at)
    if offset + length > len(content):
        raise ValueError("a string leads beyond the end of the file")
    return content[offset : offset + length]
