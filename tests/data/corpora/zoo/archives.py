"""Bad wheels: names that lead out, sizes that lie, what is no archive."""
# SPDX-License-Identifier: Apache-2.0

import struct

from tests.data.corpora import samples
from tests.data.corpora.zoo.bad import MEBIBYTE, Bad, half


def zipped(said: str, content: bytes, scheme="wheel") -> Bad:
    return Bad(scheme, "a.whl", {"a.whl": content}, said)


def lying(content: bytes, size: int) -> bytes:
    """Writes another uncompressed size for the first member into the archive's directory."""
    place = content.index(b"PK\x01\x02") + 24
    return content[:place] + struct.pack("<I", size) + content[place + 4 :]


def encrypted(content: bytes) -> bytes:
    place = content.index(b"PK\x01\x02") + 8
    content = content[:place] + b"\x01" + content[place + 1 :]
    return content[:6] + b"\x01" + content[7:]


_JSON = {"x/translations/de.json": b'{"a": "Haus"}', "x/translations/en.json": b'{"a": "house"}'}
_PO = {"x/locale/de/LC_MESSAGES/a.po": samples.po()}

BAD_ARCHIVES = {
    f"{scheme}: {what}": bad
    for scheme, members in (("wheel", _JSON), ("gettext", _PO))
    for what, bad in {
        "zip-slip": zipped(
            r"FILE: the member '\.\./\.\./x.* leads out",
            samples.archive({f"../../{name}": text for name, text in members.items()}),
            scheme,
        ),
        "zip-slip inside": zipped(
            "FILE: the member .* leads out",
            samples.archive({**members, "x/../../../y": b""}),
            scheme,
        ),
        "absolute name": zipped(
            "FILE: the member '/etc.* leads out",
            samples.archive({**members, "/etc/x": b""}),
            scheme,
        ),
        "name of another system": zipped(
            "FILE: the member .* leads out", samples.archive({**members, "..\\..\\x": b""}), scheme
        ),
        "drive": zipped(
            "FILE: the member 'C:.* leads out", samples.archive({**members, "C:\\x": b""}), scheme
        ),
        "lying size": zipped(
            "FILE: not a readable wheel: .*CRC|FILE.*not a",
            lying(samples.archive(members), 3),
            scheme,
        ),
        "size without end": zipped(
            "FILE:x/.* accepted: 8388608|more than 1073741824",
            lying(samples.archive(members), (1 << 32) - 2),
            scheme,
        ),
        "encrypted": zipped(
            "FILE: not a readable wheel: .*encrypted", encrypted(samples.archive(members)), scheme
        ),
        "truncated": zipped("FILE: not a readable wheel", half(samples.archive(members)), scheme),
        "damaged": zipped(
            "FILE: not a readable wheel|FILE.*not a",
            samples.archive(members)[:70] + b"\xff" * 9 + samples.archive(members)[79:],
            scheme,
        ),
        "no zip": zipped("FILE: not a readable wheel", b"hello", scheme),
        "empty": zipped("FILE: not a readable wheel", b"", scheme),
        "nothing in it": zipped("no pairs", samples.archive({}), scheme),
        "missing": Bad(scheme, "b.whl", {}, "b.whl: no such file"),
    }.items()
} | {
    "wheel: no JSON": zipped(
        "FILE:x/translations/de.json: not a JSON",
        samples.archive(_JSON | {"x/translations/de.json": b"{"}),
    ),
    "wheel: JSON bomb": zipped(
        "FILE:x/translations/de.json: .* accepted: 8388608",
        samples.archive(_JSON | {"x/translations/de.json": b'"' + b"x" * (9 * MEBIBYTE) + b'"'}),
    ),
    "gettext: no PO": zipped(
        "FILE:x/locale/de/LC_MESSAGES/a.po:1: not a PO",
        samples.archive({"x/locale/de/LC_MESSAGES/a.po": b"[]\n"}),
        "gettext",
    ),
}
