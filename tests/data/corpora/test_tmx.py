"""Translation memories in every encoding, of programs that take the format's rules lightly."""
# SPDX-License-Identifier: Apache-2.0

import codecs

import pytest

from gshard_mt.data.corpora import tmx
from gshard_mt.data.corpora.entry import Pair
from gshard_mt.errors import DataError
from tests.data.corpora import samples
from tests.data.corpora.samples import GERMAN, read

# declared, as Python calls it, language, text: 表 and 功 have a backslash as their second byte
ENCODINGS = [
    ("Shift_JIS", "shift_jis", "ja", "青い空の表示"),
    ("shift-jis", "cp932", "ja", "①～髙"),
    ("Windows-31J", "cp932", "ja", "①髙"),
    ("x-sjis", "shift_jis", "ja", "ソース"),
    ("EUC-JP", "euc_jp", "ja", "青い空"),
    ("ISO-2022-JP", "iso2022_jp", "ja", "青い空"),
    ("GB2312", "gb2312", "zh", "蓝天"),
    ("gb2312", "gbk", "zh", "镕樑"),
    ("GBK", "gbk", "zh", "镕"),
    ("GB18030", "gb18030", "zh", "𠀀蓝"),
    ("EUC-CN", "gb2312", "zh", "蓝天"),
    ("HZ-GB-2312", "hz", "zh", "蓝天"),
    ("Big5", "big5", "zh", "功能許"),
    ("BIG5", "cp950", "zh", "碁裏"),
    ("Big5-HKSCS", "big5hkscs", "zh", "嘅啲"),
    ("EUC-KR", "euc_kr", "ko", "파란 하늘"),
    ("euc-kr", "cp949", "ko", "똠방각하"),
    ("ks_c_5601-1987", "cp949", "ko", "하늘"),
    ("Johab", "johab", "ko", "하늘"),
    ("windows-874", "cp874", "th", "ท้องฟ้า"),
    ("windows-1251", "cp1251", "ru", "небо"),
    ("KOI8-R", "koi8_r", "ru", "небо"),
    ("ISO-8859-15", "iso8859_15", "fr", "cœur à 5 €"),
    ("iso-8859-10", "iso8859_10", "fo", "Þorp Ŋ"),
    ("macintosh", "mac_roman", "fr", "été"),
    ("US-ASCII", "ascii", "de", "Haus"),
    ("UTF-16LE", "utf_16_le", "de", "Ärger"),
]


def memory(body: str, encoding: str = "UTF-8") -> str:
    return samples.tmx(body, f"<?xml version='1.0' encoding = '{encoding}' ?>").decode()


@pytest.mark.parametrize(("declared", "codec", "language", "text"), ENCODINGS)
def test_any_encoding_that_is_declared_is_read(tmp_path, declared, codec, language, text):
    body = samples.unit(**{language: text, "en": "sky"}) * 3
    (tmp_path / "a.tmx").write_bytes(memory(body, declared).encode(codec))
    assert read(tmp_path, "tmx", "a.tmx", [language]) == [Pair(language, text, "sky")] * 3


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_character_may_be_cut_by_the_end_of_a_chunk(tmp_path, monkeypatch, size):
    body = samples.unit(ja="青い空の表示", en="sky") * 5
    head_size = len(memory("", "Shift_JIS")) - 1
    monkeypatch.setattr(tmx, "_CHUNK_BYTES", head_size + size)
    for codec in ("Shift_JIS", "ISO-2022-JP", "UTF-8"):
        (tmp_path / "a.tmx").write_bytes(memory(body, codec).encode(codec))
        assert read(tmp_path, "tmx", "a.tmx", ["ja"]) == [Pair("ja", "青い空の表示", "sky")] * 5


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE])
def test_a_byte_order_mark_proves_more_than_the_declaration(tmp_path, mark):
    codec = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le"}.get(mark, "utf-32-be")
    for declared in ("UTF-8", "Shift_JIS", "windows-1252"):
        content = mark + memory(samples.unit(de="Ärger", en="anger"), declared).encode(codec)
        (tmp_path / "a.tmx").write_bytes(content)
        assert read(tmp_path, "tmx", "a.tmx") == [Pair("de", "Ärger", "anger")]


@pytest.mark.parametrize(
    ("declared", "content", "line"),
    [
        ("Shift_JIS", "青".encode(), 4),
        ("EUC-KR", b"\xff\xff", 4),
        ("Big5", "青".encode("big5")[:1] + b"\n", 4),
        ("windows-1252", b"\x81", 4),
    ],
)
def test_text_that_is_not_in_the_declared_encoding_is_named_by_line(
    tmp_path, declared, content, line
):
    text = memory(samples.unit(ja="@@", en="sky"), declared).encode().replace(b"@@", content)
    (tmp_path / "a.tmx").write_bytes(text)
    message = f"a.tmx:{line}: not in the encoding that the XML declaration names: "
    with pytest.raises(DataError, match=message):
        read(tmp_path, "tmx", "a.tmx", ["ja"])


@pytest.mark.parametrize("declared", ["EUC-TW", "klingon", "base64", "rot13"])
def test_an_encoding_that_python_lacks_is_refused(tmp_path, declared):
    (tmp_path / "a.tmx").write_bytes(memory(samples.unit(de="x", en="y"), declared).encode())
    with pytest.raises(DataError, match="a.tmx:1: the encoding .* is unknown; convert the file"):
        read(tmp_path, "tmx", "a.tmx")


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ('Press<x id="1"/>the key', "Press the key"),
        ('Press<x id="1"></x>the key', "Press the key"),
        ("Press<br/>the<mrk/>key", "Press the key"),
        ('Press <g id="1">the</g> key', "Press the key"),
        ('Pr<g id="1">es</g>s the key', "Press the key"),
        ('Pr<bx id="1"/>es<ex id="1"/>s the key', "Press the key"),
        ("Press<g><x/></g>the key", "Press the key"),
        ("Press<ph>&lt;br <sub>x</sub><x/>/&gt;</ph>the key", "Press the key"),
        ("Pr<it>x</it>ess<ut/>the key", "Press the key"),
        ("Pr<hi/>ess the key", "Press the key"),
    ],
)
def test_codes_of_other_formats_neither_glue_words_nor_part_them(tmp_path, segment, text):
    (tmp_path / "a.tmx").write_bytes(samples.tmx(samples.unit(de="x", en=segment)))
    (pair,) = read(tmp_path, "tmx", "a.tmx")
    assert " ".join(pair.english.split()) == text


@pytest.mark.parametrize("empty", ["", " ", "\n  ", "<ph>x</ph>"])
def test_of_several_english_variants_the_first_with_text_is_taken(tmp_path, empty):
    body = samples.unit(**{"en-GB": empty, "en-US": "The color", "en-AU": "The colour", "de": "F"})
    (tmp_path / "a.tmx").write_bytes(samples.tmx(body + samples.unit(de="G", en=empty)))
    pairs = read(tmp_path, "tmx", "a.tmx")
    assert [pair.english.strip() for pair in pairs] == ["The color", ""]


def test_text_without_seg_is_read(tmp_path):
    body = (
        '<tu><prop type="x">p</prop><tuv xml:lang="de"><note>n</note>\nHaus\n</tuv>'
        '<tuv xml:lang="en"><prop type="x">p</prop>house</tuv><tuv xml:lang="fr">maison</tuv></tu>'
    )
    (tmp_path / "a.tmx").write_bytes(samples.tmx(body + samples.unit(de="Tag", en="day")))
    assert read(tmp_path, "tmx", "a.tmx") == [Pair("de", "Haus", "house"), Pair("de", "Tag", "day")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<tu>\n<tuv xml:lang="de">x<seg>Haus</seg></tuv></tu>', "4: text outside <seg>: 'x'"),
        ('<tu>\n<tuv xml:lang="de"><seg>Haus</seg> und\n mehr</tuv></tu>', "5: text outside <seg>"),
        ('<tu>\n<tuv xml:lang="de"><seg>a<seg>b</seg></seg></tuv></tu>', "4: a <seg> in a <seg>"),
    ],
)
def test_text_in_an_odd_place_is_not_lost_unsaid(tmp_path, body, said):
    (tmp_path / "a.tmx").write_bytes(samples.tmx(body))
    with pytest.raises(DataError, match=f"a.tmx:{said}"):
        read(tmp_path, "tmx", "a.tmx")


def test_a_translation_memory_gives_each_variant_with_its_english(tmp_path):
    body = (
        samples.unit(**{"en-US": "colour", "en-GB": "color", "de": "Farbe", "DE-at": "Farb"})
        + samples.unit(fr="eau", de="Wasser")
        + samples.unit(en="day", fr="jour")
    )
    (tmp_path / "a.tmx").write_bytes(samples.tmx(body))
    assert read(tmp_path, "tmx", "a.tmx") == [
        Pair("de", "Farbe", "colour"),
        Pair("DE-at", "Farb", "colour"),
    ]
    assert Pair("fr", "jour", "day") in read(tmp_path, "tmx", "a.tmx", ["*"])


def test_markup_of_other_formats_is_no_text_of_a_segment(tmp_path):
    german = (
        'Ein <bpt i="1">&lt;b&gt;</bpt>fettes<ept i="1">&lt;/b&gt;</ept> <hi>Wort</hi>'
        "<ph>&lt;br alt='<sub>nie</sub>'/&gt;</ph>R&amp;D <![CDATA[<]]>&#246;"
    )
    (tmp_path / "a.tmx").write_bytes(samples.tmx(samples.unit(de=german, en="A bold word")))
    (pair,) = read(tmp_path, "tmx", "a.tmx")
    assert pair.source == "Ein fettes Wort R&D <ö"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_a_translation_memory_says_its_own_encoding(tmp_path, encoding):
    head = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE tmx SYSTEM "tmx14.dtd">'
    content = samples.tmx(head=head).decode().encode(encoding)
    (tmp_path / "a.tmx").write_bytes(content)
    assert read(tmp_path, "tmx", "a.tmx") == GERMAN
