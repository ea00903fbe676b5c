"""PO files are read as gettext's own tools read them, and refused where those refuse them."""
# SPDX-License-Identifier: Apache-2.0

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.corpora.charsets import codec_of
from gshard_mt.data.corpora.mo import parse_mo
from gshard_mt.data.corpora.po import PoSyntaxError, parse_po
from gshard_mt.errors import DataError
from tests.data.corpora import samples
from tests.data.corpora.samples import Pair, read

GOOD = 'msgid "a"\nmsgstr "b"\n'


def texts(body: str | bytes, header: str = "") -> list[tuple[str, ...]]:
    """Returns (singular, forms...) of each message that is read."""
    body = body if isinstance(body, bytes) else body.encode()
    found = list(parse_po(samples.po("", header) + body))
    return [(each.singular, *each.forms) for each in found if each.singular]


def as_string(text: str) -> str:
    for each, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(each, escape)
    return f'"{text}"'


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (f"#TODO: shorter\n#: a.c:1\n#. note\n#!flag\n#=flag\n##\n#\n{GOOD}", [("a", "b")]),
        (f"{GOOD}#", [("a", "b")]),
        (f"{GOOD}# a comment with \x0b \x0c \u2028 in it, and \\\n", [("a", "b")]),
        ('msgid "a"msgstr"b"msgid"c" msgstr\n\n"d"', [("a", "b"), ("c", "d")]),
        ('msgid "a" "b"\t"c"\nmsgstr "x"\x0b"y"\x0c"z"\r\n', [("abc", "xyz")]),
        (' msgid "a"\n\tmsgstr "b" # why\n', [("a", "b")]),
        ('msgid "a\\\nb"\nmsgstr "c"\n', [("ab", "c")]),
        (
            r'msgid "\t\"\\\n"' + "\n" + r'msgstr "\101\x42\f\v\a\b\r"',
            [('\t"\\\n', "AB\f\v\a\b\r")],
        ),
        (r'msgid "a" msgstr "\303\244 \xC3\xa4 \60"', [("a", "ä ä 0")]),
        ('domain "x"\n' + GOOD, [("a", "b")]),
        ('#| msgid "old"\n#| "older"\n' + GOOD, [("a", "b")]),
        ('#| msgctxt "x"\n#| msgid "old"\n#| msgid_plural "olds"\n' + GOOD, [("a", "b")]),
        ('#~| msgid "old"\n#~ msgid "c"\n#~ msgstr "d"\n' + GOOD, [("a", "b")]),
        ('#~ msgid "c" "d"\n#~ "e"\n#~ msgstr "d"\n', []),
        (f"#, c-format, fuzzy\n{GOOD}", []),
        (f"#,fuzzy,c-format\n{GOOD}", []),
        (f"#, no-fuzzy\n#, fuzzy-match\n{GOOD}", [("a", "b")]),
        (f'#, fuzzy\n{GOOD}msgid "c"\nmsgstr "d"\n', [("c", "d")]),
        ('msgctxt ""\nmsgid ""\nmsgstr "no header"\n', []),
        (
            'msgid "a" msgid_plural "as" ' + " ".join(f'msgstr[{n}] "{n}"' for n in range(12)),
            [("a", *map(str, range(12)))],
        ),
    ],
)
def test_the_grammar_of_gettext_is_read(body, found):
    assert texts(body) == found


_BAD = {
    "no closing quote": ('msgid "a\nmsgstr "b"\n', 6, "closing quote"),
    "no closing quote of a translation": ('msgid "a"\nmsgstr "b\n', 7, "closing quote"),
    "cut short in a string": ('msgid "a"\nmsgstr ""\n"b', 8, "closing quote"),
    "cut short in an escape": ('msgid "a"\nmsgstr "b\\', 7, "closing quote"),
    "a quote too many": ('msgid "a"\nmsgstr "b""\n', 7, "closing quote"),
    "a quote within": ('msgid "a "b" c"\nmsgstr "b"\n', 6, "keyword 'b' is unknown"),
    "cut short behind msgid": ('msgid "a"\n', 7, "found end; accepted here: msgstr"),
    "no msgid": ('msgstr "b"\n', 6, "found msgstr; accepted here: msgid"),
    "text outside": ('msgid "a"\nmsgstr "b"\nc\n', 8, "keyword 'c'"),
    "text without quotes": ("msgid a\nmsgstr b\n", 6, "keyword 'a'"),
    "unknown control sequence": (r'msgid "a" msgstr "\d+"', 6, "control sequence"),
    "an escape of Python": (r'msgid "a" msgstr "\u00e4"', 6, "control sequence"),
    "plural without forms": ('msgid "a"\nmsgid_plural "as"\nmsgstr "b"\n', 8, r"accepted here: \["),
    "forms from one": ('msgid "a"\nmsgid_plural "as"\nmsgstr[1] "b"\n', 8, r"msgstr\[0\]"),
    "a form twice": (
        'msgid "a"\nmsgid_plural "as"\nmsgstr[0] "b"\nmsgstr[0] "c"\n',
        9,
        r"here: msgstr\[1\]",
    ),
    "half obsolete": ('#~ msgid "a"\nmsgstr "b"\n', 7, "only some lines"),
    "half obsolete string": ('#~ msgid "a"\n#~ msgstr "b"\n"c"\n', 8, "only some lines"),
    "no-break space": ('msgid\u00a0"a"\nmsgstr "b"\n', 6, "found '\\\\xa0'"),
    "line separator": ('msgid "a"\u2028msgstr "b"\n', 6, "found '\\\\u2028'"),
    "next line": ('msgid "a"\x85msgstr "b"\n', 6, "found '\\\\x85'"),
    "a comment inside": ('msgid "a"\n# why\nmsgstr "b"\n', 7, "found comment"),
}


@pytest.mark.parametrize("what", _BAD)
def test_what_gettext_refuses_is_refused_with_its_line(tmp_path, what):
    body, line, said = _BAD[what]
    (tmp_path / "de.po").write_bytes(samples.po("") + body.encode())
    message = f"de.po:{line}: not a PO catalogue: a syntax error: .*{said}"
    with pytest.raises(DataError, match=message):
        read(tmp_path, "gettext", "de.po")


# What Python's `splitlines` and `strip` take for the end of a line, but gettext doesn't.
_ODD = [
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\r",
    "\u00a0",
    "\u3000",
]


@pytest.mark.parametrize("odd", _ODD)
def test_characters_at_which_only_python_splits_lines_stay_in_their_string(odd):
    body = f'# a{odd}b\nmsgid "one{odd}two{odd}"\nmsgstr "{odd}eins{odd}zwei"\n'
    assert texts(body) == [(f"one{odd}two{odd}", f"{odd}eins{odd}zwei")]
    assert texts(body.replace("\n", "\r\n")) == texts(body)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_out_as_it_was_written(pairs):
    pairs = [(a, b) for a, b in pairs if not set("\0") & set(a + b)]
    body = "".join(f"msgid {as_string(a)}\nmsgstr {as_string(b)}\n" for a, b in pairs)
    assert texts(body) == pairs


def test_line_ends_of_old_macs_are_read():
    content = (samples.po("") + b"# a comment\n" + GOOD.encode()).replace(b"\n", b"\r")
    assert [each.singular for each in parse_po(content)] == ["", "a"]


def test_comments_may_be_in_another_encoding_but_not_text():
    assert texts(b"# J\xf6rg\n#: \xff\xfe\n" + GOOD.encode()) == [("a", "b")]
    with pytest.raises(ValueError, match="the text in line 7 is not utf-8"):
        texts(b'msgid "a"\nmsgstr "J\xf6rg"\n')


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("Shift_JIS", "表示①ソ"),  # 0x5C, a backslash, is the second byte of 表 and ソ
        ("BIG5", "功能許蓋"),
        ("GB2312", "蓝天镕"),  # the last is in GBK only
        ("GB18030", "乗乚"),
        ("EUC-JP", "青い空"),
        ("EUC-KR", "파란 하늘 똠"),
        ("KOI8-R", "небо"),
        ("ISO-2022-JP", "青い空"),
    ],
)
def test_text_in_other_encodings_is_read(charset, text):
    codec = codec_of(charset)  # wider than the charset
    content = samples.po(f'msgid "a"\nmsgstr "{text}"\n').replace(b"UTF-8", charset.encode())
    content = content.decode().encode(codec)
    assert [each.forms for each in parse_po(content)][1:] == [[text]]


def test_utf_16_is_named():
    with pytest.raises(ValueError, match="looks like UTF-16; convert the file to UTF-8"):
        list(parse_po(GOOD.encode("utf-16")))


def test_the_line_of_an_error_is_known_after_strings_of_several_lines():
    with pytest.raises(PoSyntaxError) as caught:
        list(parse_po(b'msgid ""\n"a\\\nb"\n\nmsgstr ""\n"c\n'))
    assert caught.value.line == 6


def _dependent(messages: list[tuple[list[bytes], list[bytes]]], order: str) -> bytes:
    """A MO file of version 0.1 whose strings alternate between text and system-dependent parts."""
    names = [b"PRIu64", b"I", b"PRIdMAX"]
    main = [(b"", b"Content-Type: text/plain; charset=UTF-8\n"), (b"plain", b"schlicht")]
    data, start = b"", 2000

    def put(content: bytes) -> int:
        nonlocal data
        data += content
        return start + len(data) - len(content)

    tables = [
        b"".join(struct.pack(f"{order}2I", len(text), put(text + b"\0")) for text in side)
        for side in zip(*main, strict=True)
    ]
    name_table = b"".join(
        struct.pack(f"{order}2I", len(name) + 1, put(name + b"\0")) for name in names
    )
    dependent = [b"", b""]
    for pair in messages:
        for side, parts in enumerate(pair):
            static = put(b"".join(parts[::2]) + b"\0")
            record = struct.pack(f"{order}I", static)
            for at in range(0, len(parts), 2):
                is_last = at + 1 == len(parts)
                part = 0xFFFFFFFF if is_last else names.index(parts[at + 1])
                record += struct.pack(f"{order}2I", len(parts[at]) + is_last, part)
            dependent[side] += struct.pack(f"{order}I", put(record))
    places, content = [], b""
    for table in (*tables, name_table, *dependent):
        places.append(48 + len(content))
        content += table
    head = [0x950412DE, 1, len(main), places[0], places[1], 0, 0]
    head += [len(names), places[2], len(messages), places[3], places[4]]
    return (struct.pack(f"{order}12I", *head) + content).ljust(start, b"\0") + data


@pytest.mark.parametrize("order", ["<", ">"])
def test_mo_files_give_messages_with_parts_that_differ_between_systems(tmp_path, order):
    content = _dependent(
        [
            ([b"%", b"PRIu64", b" of %", b"PRIdMAX", b" bytes"], [b"%", b"PRIu64", b" Byte"]),
            (
                [b"ctx\x04%", b"PRIu64", b" file\0%", b"PRIu64", b" files"],
                [b"%", b"PRIu64", b" Datei\0%", b"I", b"d Dateien"],
            ),
        ],
        order,
    )
    (tmp_path / "de.mo").write_bytes(content)
    assert read(tmp_path, "gettext", "de.mo") == [
        Pair("de", "schlicht", "plain"),
        Pair("de", "%<PRIu64> Byte", "%<PRIu64> of %<PRIdMAX> bytes"),
        Pair("de", "%<PRIu64> Datei", "%<PRIu64> file"),
        Pair("de", "%Id Dateien", "%<PRIu64> files"),
    ]


@pytest.mark.parametrize("place", [28, 32, 36, 40, 44])
def test_damaged_tables_of_such_parts_are_refused(place):
    content = bytearray(_dependent([([b"%", b"PRIu64", b""], [b"%", b"PRIu64", b""])], "<"))
    content[place : place + 4] = b"\xff\xff\xff\x7f"
    with pytest.raises(ValueError):
        list(parse_mo(bytes(content)))
