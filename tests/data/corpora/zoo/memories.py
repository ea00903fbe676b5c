"""Bad translation memories: XML that is broken, hostile or something else."""
# SPDX-License-Identifier: Apache-2.0

from tests.data.corpora import samples
from tests.data.corpora.zoo.bad import MEBIBYTE, Bad, half

_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
_DOCTYPE = '<?xml version="1.0"?><!DOCTYPE tmx [{}]>'


def xml(said: str, content: bytes, languages=("de",)) -> Bad:
    return Bad("tmx", "a.tmx", {"a.tmx": content}, said, languages)


BAD_TMX = {
    "billion laughs": xml(
        "FILE:1: a DTD inside the file.*entities",
        samples.tmx(
            samples.unit(de="&l9;", en="x"), _DOCTYPE.format('<!ENTITY l0 "ha">' + _LAUGHS)
        ),
    ),
    "external entity": xml(
        "FILE:1: a DTD inside",
        samples.tmx(
            samples.unit(de="&file;", en="x"),
            _DOCTYPE.format('<!ENTITY file SYSTEM "file:///etc/passwd">'),
        ),
    ),
    "parameter entity": xml(
        "FILE:1: a DTD inside",
        samples.tmx(None, _DOCTYPE.format('<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;')),
    ),
    "entity of a DTD elsewhere": xml(
        "FILE:4: an entity that XML doesn't have",
        samples.tmx(
            samples.unit(de="a&nbsp;b", en="x"),
            '<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "x.dtd">',
        ),
    ),
    "undeclared entity": xml("FILE:4: broken XML: undefined", samples.tmx(samples.unit(de="&x;"))),
    "tags that cross": xml("FILE:3: broken XML: mismatched tag", samples.tmx("<tu></tuv>")),
    "cut short": xml("FILE:8: broken XML", half(samples.tmx())),
    "text behind the end": xml("FILE:.*junk after", samples.tmx() + b"<more/>"),
    "no English": xml(
        "FILE: no pairs of de and English in it; it has de, fr",
        samples.tmx(samples.unit(de="Haus", fr="maison")),
    ),
    "another language": xml(
        "FILE: no pairs of cs and English.*it has de, en", samples.tmx(), ("cs",)
    ),
    "no units": xml("FILE: no pairs", samples.tmx("<!-- none -->")),
    "no xml:lang": xml(
        "FILE:4: a <tuv> without xml:lang", samples.tmx("<tu>\n<tuv><seg/></tuv></tu>")
    ),
    "HTML": xml("FILE:1: the root element is 'html'", b"<html><body>x</body></html>"),
    "NUL": xml("FILE:4: broken XML", samples.tmx(samples.unit(de="a\0b", en="x"))),
    "surrogate by number": xml(
        "FILE:4: broken XML", samples.tmx(samples.unit(de="&#xd800;", en="x"))
    ),
    "unknown encoding": xml(
        "FILE:1: .*encoding", samples.tmx(head='<?xml version="1.0" encoding="klingon"?>')
    ),
    "encoding of no text": xml(
        "FILE:1: .*(encod|decod)", samples.tmx(head='<?xml version="1.0" encoding="hex"?>')
    ),
    "nested without end": xml("FILE:3: elements 65 deep", samples.tmx("<x>" * 100_000)),
    "endless attribute": xml(
        "FILE:.* more than 4194304 bytes", samples.tmx(f'<tu x="{"y" * (5 * MEBIBYTE)}"/>')
    ),
    "endless segment": xml(
        "FILE:4: a segment of more than", samples.tmx(samples.unit(de="x " * MEBIBYTE, en="x"))
    ),
    "unit of a thousand variants": xml(
        "FILE:.*a unit of more than 1000",
        samples.tmx("<tu>" + '<tuv xml:lang="de"><seg/></tuv>' * 1001 + "</tu>"),
    ),
    "no language": xml(
        "FILE: language '\\?' is not a code", samples.tmx(samples.unit(**{"?": "x"})), ("*",)
    ),
}
