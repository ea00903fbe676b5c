"""Bad gettext catalogues, as text and compiled."""
# SPDX-License-Identifier: Apache-2.0

import struct

from tests.data.corpora import samples
from tests.data.corpora.zoo.bad import Bad, half


def catalogue(said: str, content: bytes | None, name="de.po", languages=("de",)) -> Bad:
    return Bad("gettext", name, {name: content}, said, languages)


def compiled(said: str, content: bytes) -> Bad:
    return catalogue(said, content, "de.mo")


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


_MAGIC = 0x950412DE

BAD_GETTEXT = {
    "syntax": catalogue(
        "FILE:7: not a PO catalogue: a syntax", samples.po('msgid "a"\nmsgtsr "b"\n')
    ),
    "no PO": catalogue("FILE:1: not a PO catalogue: a syntax", b"{}\n"),
    "bad UTF-8": catalogue("FILE: not a PO catalogue: .*utf-8", samples.po() + b'msgid "\xff"\n'),
    "unknown charset": catalogue(
        "FILE: .*charset: found 'klingon'", samples.po().replace(b"UTF-8", b"klingon")
    ),
    "charset of no text": catalogue(
        "FILE: .*charset: found 'hex'", samples.po().replace(b"UTF-8", b"hex")
    ),
    "plural rule": catalogue(
        "FILE: .*Plural-Forms can't", samples.po(header='"Plural-Forms: plural=import os;\\n"')
    ),
    "plural rule that divides by zero": catalogue(
        "FILE: .*Plural-Forms can't", samples.po(header='"Plural-Forms: plural=n%0;\\n"')
    ),
    "no language": catalogue("ui.po: doesn't say which", samples.po(), "ui.po", ("de", "fr")),
    "another language": catalogue(
        "FILE: no pairs of cs and English", samples.po(), "de.po", ("cs",)
    ),
    "no translation": catalogue("no pairs", samples.po('msgid "a"\nmsgstr ""\n')),
    "empty": catalogue("no pairs", b""),
    "an empty folder": catalogue("FILE: has no .po or .mo file", None),
    "missing": Bad("gettext", "locale/*.po", {}, r"\*.po: no such file, folder or package"),
    "no such package": Bad("gettext", "no-such-package", {}, "no such file, folder or package"),
    "another file": catalogue("FILE: has no .po or .mo", b"x", "de.txt"),
    "a folder for a file": Bad("gettext", "de.*", {"de.po": None}, "no such file|has no"),
    "not fetched without a hash": Bad("gettext", "lamp==1.0", {}, "lamp==1.0: sha256 is missing"),
    "MO: magic": compiled("FILE: not a MO catalogue: the first bytes", b"x" * 40),
    "MO: empty": compiled("FILE: not a MO catalogue: the first bytes", b""),
    "MO: header cut short": compiled("FILE: .*first bytes", samples.mo()[:12]),
    "MO: version": compiled("FILE: .*version 9", numbers(_MAGIC, 9 << 16, 0, 28, 28)),
    "MO: cut short": compiled("FILE: .*beyond the end", half(samples.mo())),
    "MO: table far away": compiled(
        "FILE: .*table leads beyond", numbers(_MAGIC, 0, 1, 1 << 31, 28)
    ),
    "MO: string far away": compiled(
        "FILE: .*string leads beyond", numbers(_MAGIC, 0, 1, 20, 28, 4, 1 << 31, 0, 0)
    ),
    "MO: strings without end": compiled(
        "FILE: .*strings overlap", numbers(_MAGIC, 0, 9, 20, 20, *[100, 20] * 50)
    ),
    "MO: bad UTF-8": compiled("FILE: .*utf-8", samples.mo({b"house": b"\xff\xfe"})),
}
