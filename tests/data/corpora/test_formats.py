"""Every format gives the pairs that its file holds, in order, whatever else stands beside them."""
# SPDX-License-Identifier: Apache-2.0

import gzip
import json
import lzma
import pathlib
from typing import Any

import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.corpora import catalogues, tfds_datasets
from gshard_mt.data.corpora.entry import Pair
from gshard_mt.data.corpora.mo import parse_mo
from gshard_mt.data.corpora.tfrecord import masked_crc
from gshard_mt.errors import DataError
from tests.data.corpora import samples
from tests.data.corpora.samples import GERMAN, PAIRS, read

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
FILES = {
    "tsv": ("a.tsv", samples.tsv()),
    "jsonl": ("a.jsonl", samples.jsonl()),
    "tmx": ("a.tmx", samples.tmx()),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> pathlib.Path:
    return samples.dataset(tmp_path_factory.mktemp("tfds"))


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("scheme", FILES)
def test_a_file_and_a_glob_are_read_compressed_or_not(tmp_path, scheme, suffix):
    name, content = FILES[scheme]
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}{suffix}").write_bytes(COMPRESS[suffix](content))
    assert read(tmp_path, scheme, f"x/{name}{suffix}") == GERMAN
    assert read(tmp_path, scheme, f"*/{name}{suffix}") == GERMAN * 2


def test_frames_of_an_archive_follow_each_other(tmp_path):
    half = len(samples.tsv()) // 2
    for suffix, compress in COMPRESS.items():
        parts = compress(samples.tsv()[:half]) + compress(samples.tsv()[half:])
        (tmp_path / f"a.tsv{suffix}").write_bytes(parts)
        assert read(tmp_path, "tsv", f"a.tsv{suffix}") == GERMAN


@given(st.lists(st.binary(max_size=4000), max_size=5), st.integers(1, 22))
@settings(max_examples=40, deadline=None)
def test_any_bytes_come_out_of_zstd_as_they_went_in(tmp_path_factory, parts, level):
    path = tmp_path_factory.mktemp("zst") / "a.zst"
    compress = zstandard.ZstdCompressor(level=level).compress
    path.write_bytes(b"".join(compress(part * 100) for part in parts))
    with catalogues.open_bytes(path) as file:
        assert file.read() == b"".join(part * 100 for part in parts)


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path):
    content = b"\xef\xbb\xbf" + samples.tsv().replace(b"\n", b"\r\n")
    (tmp_path / "a.tsv").write_bytes(content)
    assert read(tmp_path, "tsv", "a.tsv") == GERMAN


def test_control_characters_are_left_to_cleaning(tmp_path):
    (tmp_path / "a.tsv").write_bytes("a\0b\x1b\u2028\x85\tx\x0b\x0c\n".encode())
    assert read(tmp_path, "tsv", "a.tsv") == [Pair("de", "a\0b\x1b\u2028\x85", "x\x0b\x0c")]


def test_a_line_of_one_mebibyte_is_read(tmp_path):
    long = "x" * ((1 << 20) - 2)
    (tmp_path / "a.tsv").write_text(f"{long}\ty\nb\tc\n")
    assert read(tmp_path, "tsv", "a.tsv") == [Pair("de", long, "y"), Pair("de", "b", "c")]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_moses_files_are_read_side_by_side(tmp_path, suffix):
    for index, name in enumerate(("a.de", "a.en")):
        (tmp_path / f"{name}{suffix}").write_bytes(COMPRESS[suffix](samples.column(index)))
    assert read(tmp_path, "moses", f"a.de{suffix},a.en{suffix}") == GERMAN


@pytest.mark.parametrize(
    "rows",
    [
        [{"translation": {"de": s, "en": e, "fr": 3}, "id": 7} for s, e in PAIRS],
        [{"de": s, "en": e, "score": 0.5} for s, e in PAIRS],
        [{"deu": s, "eng": e} for s, e in PAIRS],
        [{"translation": {"de-AT": s, "en_GB": e}} for s, e in PAIRS],
        [{"source": s, "target": e} for s, e in PAIRS],
        [
            {"translations": {"language": ["en", "fr", "de"], "translation": [e, "x", s]}}
            for s, e in PAIRS
        ],
    ],
)
def test_rows_of_every_shape_give_the_pairs(tmp_path, rows):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    plain = [pair._replace(language="de") for pair in read(tmp_path, "jsonl", "a.jsonl")]
    assert plain == GERMAN
    if rows[0].get("id") != 7:  # a column of texts and numbers is not for Parquet
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        (tmp_path / "a.parquet").write_bytes(samples.parquet(columns))
        assert read(tmp_path, "parquet", "a.parquet") == read(tmp_path, "jsonl", "a.jsonl")


def test_each_wanted_language_of_a_row_is_a_pair(tmp_path):
    rows = [
        {"translation": {"de": "Haus", "fr": "maison", "en": "house", "en-GB": "home"}},
        {"translation": {"de": None, "fr": "eau", "en": "water"}},
        {"translation": {"de": "Tag", "fr": "jour", "en": None}},
        {"translation": {"cs": "den", "en": "day"}},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read(tmp_path, "jsonl", "a.jsonl", ["fr", "de"])
    assert found == [
        Pair("de", "Haus", "house"),
        Pair("fr", "maison", "house"),
        Pair("fr", "eau", "water"),
    ]
    every = read(tmp_path, "jsonl", "a.jsonl", ["*"])
    assert every == [*found, Pair("cs", "den", "day")]


def test_half_a_character_becomes_a_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text(r'{"de": "a\ud83d", "en": "\ude00b \ud83d\ude00"}')
    assert read(tmp_path, "jsonl", "a.jsonl") == [Pair("de", "a\ufffd", "\ufffdb 😀")]
    texts = {"en": rb'{"k": "\ud800"}', "de": rb'{"k": "\udfff!"}'}
    members = {f"x/translations/{name}.json": text for name, text in texts.items()}
    (tmp_path / "a.whl").write_bytes(samples.archive(members))
    assert read(tmp_path, "wheel", "a.whl") == [Pair("de", "\ufffd!", "\ufffd")]


def test_parquet_is_read_batch_after_batch(tmp_path, monkeypatch):
    number = 3000
    columns = {"de": [f"Haus {n}" for n in range(number)], "en": ["x"] * number}
    (tmp_path / "a.parquet").write_bytes(samples.parquet(columns))
    found = read(tmp_path, "parquet", "*.parquet")
    assert [pair.source for pair in found] == columns["de"]


def test_parquet_takes_texts_of_a_dictionary_and_large_ones(tmp_path):
    columns = {
        "de": pa.array([source for source, _ in PAIRS]).dictionary_encode(),
        "en": pa.array([english for _, english in PAIRS], pa.large_string()),
        "id": [1, 2, 3],
    }
    (tmp_path / "a.parquet").write_bytes(samples.parquet(columns))
    assert read(tmp_path, "parquet", "a.parquet") == GERMAN


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


def _catalogues(folder: pathlib.Path) -> pathlib.Path:
    messages = folder / "pkg" / "locale" / "de" / "LC_MESSAGES"
    messages.mkdir(parents=True)
    (messages / "a.po").write_bytes(samples.po())
    (messages / "a.mo").write_bytes(samples.mo({b"compiled": b"von a.po"}))
    (messages / "b.mo").write_bytes(samples.mo({b"ctx\x04only": b"nur"}))
    for locale in ("en_GB", "fr"):
        other = folder / "pkg" / "locale" / locale / "LC_MESSAGES"
        other.mkdir(parents=True)
        (other / "a.po").write_bytes(samples.po('msgid "house"\nmsgstr "maison"\n'))
    return folder / "pkg"


_IN_FOLDER = [*GERMAN, Pair("de", "nur", "only")]


@pytest.mark.parametrize("location", ["pkg", "pkg/locale/*/LC_MESSAGES/*", "pkg/**/*.?o"])
def test_catalogues_of_a_folder_or_glob_are_read(tmp_path, location):
    _catalogues(tmp_path)
    assert read(tmp_path, "gettext", location) == _IN_FOLDER
    every = read(tmp_path, "gettext", location, ["*"])
    assert every == [*_IN_FOLDER, Pair("fr", "maison", "house")]


def test_catalogues_of_a_wheel_are_read_without_unpacking(tmp_path):
    folder = _catalogues(tmp_path / "in")
    members = {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for path in sorted(folder.rglob("*.?o"))
    }
    (tmp_path / "a.whl").write_bytes(samples.archive(members))
    before = sorted(tmp_path.rglob("*"))
    assert read(tmp_path, "gettext", "a.whl") == _IN_FOLDER
    assert sorted(tmp_path.rglob("*")) == before


def test_catalogues_of_an_installed_package_are_found(tmp_path, monkeypatch):
    folder = _catalogues(tmp_path / "site")
    info = tmp_path / "site" / "lamp-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lamp\nVersion: 1.0\n")
    names = [str(path.relative_to(folder.parent)) for path in sorted(folder.rglob("*.?o"))]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert read(tmp_path, "gettext", "lamp") == _IN_FOLDER


@pytest.mark.parametrize(
    ("name", "header", "languages", "tag"),
    [
        ("sr@latin/LC_MESSAGES/a.po", "", ["*"], "sr-Latn"),
        ("pt_BR.UTF-8/LC_MESSAGES/a.po", '"Language: de\\n"', ["pt"], "pt_BR"),
        ("ui.po", '"Language: ca@valencia\\n"', ["*"], "ca"),
        ("po/gl.po", "", ["*"], "gl"),
        ("translated.po", "", ["de"], "de"),
        ("uz@Cyrl/LC_MESSAGES/a.po", "", ["uz"], "uz-Cyrl"),
        ("ui.po", '"Language: sr@ijekavianlatin\\n"', ["sr_Latn"], "sr-Latn"),
        ("ui.po", '"Language: German\\n"', ["de"], "de"),
        ("ui.po", '"Language: ga\\n"', ["*"], "ga"),
        ("po/nl.po", '"Language: LANGUAGE\\n"', ["*"], "nl"),
        ("pt_BR/gui.po", "", ["*"], "pt_BR"),
        ("src/hsb.po", "", ["*"], "hsb"),
        ("po/messages.de.po", "", ["*"], "de"),
        ("po/my-plugin-pt_BR.po", "", ["*"], "pt_BR"),
        ("po/app.zh-Hant.po", "", ["*"], "zh-Hant"),
        ("de/messages.po", "", ["*"], "de"),
        ("po/sign-in.po", "", ["de"], "de"),
        ("po/app.min.po", "", ["de"], "de"),
    ],
)
def test_a_catalogue_finds_its_language(tmp_path, name, header, languages, tag):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(samples.po(header=header))
    found = read(tmp_path, "gettext", name, languages)
    assert [pair.language for pair in found] == [tag] * 3


def test_messages_that_are_no_translation_are_left_out(tmp_path):
    body = """
#, fuzzy
msgid "guess"
msgstr "geraten"

msgid "empty"
msgstr ""

#~ msgid "old"
#~ msgstr "alt"

msgctxt "a month"
msgid "May"
msgstr "Mai"

msgid ""
"long "
"message"
msgstr ""
"lange\\n"
"Nachricht"
"""
    (tmp_path / "de.po").write_bytes(samples.po(body))
    assert read(tmp_path, "gettext", "de.po") == [
        Pair("de", "Mai", "May"),
        Pair("de", "lange\nNachricht", "long message"),
    ]


_RULES = {
    "de": ("nplurals=2; plural=(n != 1);", ["ein", "viele"], ["ein", "viele"]),
    "ru": (
        "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && "
        "(n%100<10 || n%100>=20) ? 1 : 2);",
        ["один", "три", "пять"],
        ["один", "пять"],
    ),
    "ar": (
        "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : "
        "n%100>=11 ? 4 : 5;",
        ["zero", "one", "two", "few", "many", "other"],
        ["one", "few"],
    ),
    "ja": ("nplurals=1; plural=0;", ["全部"], [None, "全部"]),
    "fr": ("", ["un", "plusieurs"], ["un", "plusieurs"]),  # gettext's rule where there is none
}


@pytest.mark.parametrize("language", _RULES)
@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_one_and_many_go_with_the_forms_of_one_and_five(tmp_path, language, suffix):
    rule, forms, expected = _RULES[language]
    header = f"Plural-Forms: {rule}"
    if suffix == "po":
        lines = [f'msgstr[{index}] "{form}"' for index, form in enumerate(forms)]
        body = 'msgid "one"\nmsgid_plural "many"\n' + "\n".join(lines) + "\n"
        content = samples.po(body, f'"{header}\\n"' if rule else "")
    else:
        messages = {b"one\0many": "\0".join(forms).encode()}
        content = samples.mo(messages)
        if rule:
            head = b"Content-Type: text/plain; charset=UTF-8\n" + header.encode()
            content = samples.mo({b"": head, **messages})
    (tmp_path / f"{language}.{suffix}").write_bytes(content)
    found = read(tmp_path, "gettext", f"{language}.{suffix}", [language])
    pairs = zip(expected, ("one", "many"), strict=True)
    assert found == [Pair(language, form, english) for form, english in pairs if form]


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=20))
@settings(max_examples=50, deadline=None)
def test_mo_files_give_what_was_compiled(messages):
    texts = {key: value for key, value in messages.items() if not set("\0\x04") & set(key + value)}
    content = samples.mo({key.encode(): value.encode() for key, value in texts.items()})
    found = [(message.singular, message.forms[0]) for message in parse_mo(content)][1:]
    assert found == list(texts.items())


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_dataset_of_tfds_is_found_by_its_folder(dataset, depth):
    folder = [dataset, *dataset.parents][depth]
    found = read(folder.parent, "tfds", folder.name)
    assert sorted(found) == sorted(GERMAN)  # TFDS shuffles what it makes
    assert sorted(read(folder.parent, "tfds", folder.name, ["*"], "dev")) == sorted(GERMAN)


_TEXT = tfds.features.Text()
_NESTED = tfds.features.FeaturesDict({"de": _TEXT, "en": _TEXT})


@pytest.mark.parametrize(
    ("features", "row"),
    [
        (
            {"translations": tfds.features.TranslationVariableLanguages(), "talk_name": _TEXT},
            {"translations": {"de": "Haus", "en": "house", "fr": ["x", "y"]}, "talk_name": "t"},
        ),
        ({"translation": _NESTED}, {"translation": {"de": "Haus", "en": "house"}}),
        ({"source": _TEXT, "target": _TEXT}, {"source": "Haus\n", "target": "house\n"}),
        ({"de": _TEXT, "en": _TEXT, "id": _TEXT}, {"de": "Haus", "en": "house", "id": "7"}),
    ],
    ids=["variable", "nested", "sides", "codes"],
)
def test_features_of_every_shape_are_read(tmp_path, features, row):
    samples.dataset(tmp_path, tfds.features.FeaturesDict(features), [row])
    assert read(tmp_path, "tfds", "lamp") == [Pair("de", "Haus", "house")]


def test_tfrecord_files_are_read_without_tensorflow(dataset, tmp_path):
    info = json.loads((dataset / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "features.json").write_bytes((dataset / "features.json").read_bytes())
    records = [samples.example(de=source, en=english) for source, english in PAIRS]
    for split in ("train", "validation"):
        path = tmp_path / f"lamp-{split}.tfrecord-00000-of-00001"
        path.write_bytes(samples.tfrecord(records))
    assert read(tmp_path.parent, "tfds", tmp_path.name) == GERMAN


def test_the_checksum_is_that_of_tensorflow():
    crc = 0xE3069283  # CRC-32C of 123456789, in every table of checks
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_folder_of_text_files_by_language_and_split_is_read(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / f"de.{split}.txt.gz").write_bytes(gzip.compress(samples.column(0)))
        (tmp_path / f"fr.{split}.txt").write_bytes(samples.column(0))
        (tmp_path / f"en.{split}.txt").write_bytes(samples.column(1))
    found = read(tmp_path.parent, "tfds", tmp_path.name)
    assert found == GERMAN
    every = read(tmp_path.parent, "tfds", tmp_path.name, ["*"], "dev")
    assert every == [*GERMAN, *(pair._replace(language="fr") for pair in GERMAN)]


def test_a_dataset_is_made_by_name_and_kept(tmp_path, monkeypatch):
    made = []

    class Lamp(samples.Builder, skip_registration=True):
        name = "lamp"

        def _generate_examples(self):
            made.append(1)
            yield from enumerate(self.rows)

    monkeypatch.setattr(
        tfds_datasets.tfds,
        "builder",
        lambda name, try_gcs, **options: Lamp(data_dir=tmp_path / "kept", **options),
    )
    first = read(tmp_path, "tfds", "lamp/config:1.0.0")
    assert sorted(first) == sorted(GERMAN) and made
    num_made = len(made)
    assert read(tmp_path, "tfds", "lamp") == first and len(made) == num_made


@pytest.mark.parametrize(
    "name", ["ted_multi_translate", "para_crawl/ende", "flores/neen", "wmt19_translate/de-en"]
)
def test_the_names_of_tfds_are_known(tmp_path, monkeypatch, name):
    builder = tfds.builder(name, try_gcs=False, data_dir=tmp_path)
    languages = ["ne" if "flores" in name else "de"]
    tags = tfds_datasets.Tags(tuple(languages), name)
    assert tfds_datasets._row(builder.info.features, tags, tmp_path)


def test_a_subset_of_opus_can_be_had_in_any_language(tmp_path):
    match = tfds_datasets._OPUS_PAIR.fullmatch("opus/medical:en-fr")
    assert match
    builder: Any = tfds.builder(**tfds_datasets._opus(match), try_gcs=False, data_dir=tmp_path)
    assert set(builder.info.features) == {"en", "fr"}
    assert [subset.name for subset in builder.subsets] == ["EMEA"]


def test_tags_of_every_scheme_are_read(tmp_path):
    tags = ["ca", "cat_Latn", "ca-ES-valencia", "ca@valencia", "ca-ES-u-co-trad", "ca-x-house"]
    units = [samples.unit(**{"en-US-x-house": f"{n}", tag: tag}) for n, tag in enumerate(tags)]
    (tmp_path / "a.tmx").write_bytes(samples.tmx("".join(units)))
    assert [pair.language for pair in read(tmp_path, "tmx", "a.tmx", ["ca"])] == tags
    rows = [{"translation": {tag: tag, "eng_Latn": "x"}} for tag in ("swh", "swh_Latn", "sw-KE")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [pair.source for pair in read(tmp_path, "jsonl", "a.jsonl", ["sw"])] == [
        "swh",
        "swh_Latn",
        "sw-KE",
    ]


def test_a_script_in_the_recipe_wants_only_that_script(tmp_path):
    row = {"translation": {"sr-Latn": "reč", "sr_Cyrl": "реч", "sr": "реч", "en": "word"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))

    def tags(language: str) -> list[str]:
        return [pair.language for pair in read(tmp_path, "jsonl", "a.jsonl", [language])]

    assert tags("sr_Latn") == ["sr-Latn"]
    assert tags("sr_Cyrl") == ["sr_Cyrl", "sr"]
    assert tags("sr") == ["sr-Latn", "sr_Cyrl", "sr"]


@pytest.mark.parametrize("languages", [["de"], ["*"]])
def test_text_of_a_tag_that_is_no_language_is_counted_and_said(tmp_path, languages, capsys):
    unit = samples.unit(**{"en": "house", "de": "Haus", "x-default": "house", "calv": "casa"})
    (tmp_path / "a.tmx").write_bytes(samples.tmx(unit + unit + samples.unit(en="x", mul="y")))
    assert len(read(tmp_path, "tmx", "a.tmx", languages)) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith(
        "a.tmx: texts passed over: 5, of tags that are no language: 'x-default' (2), 'calv' (2), "
        "'mul' (1); accepted: tags like de, deu, pt-BR, sr_Latn"
    )


def test_columns_and_other_languages_are_no_text_passed_over(tmp_path, capsys):
    rows = [
        {"de": "Haus", "fr": "maison", "en": "house", "score": "0.9", "url": "x"},
        {"translation": {"de": "Tag", "fr": "jour", "en": "day", "calv": None}},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(read(tmp_path, "jsonl", "a.jsonl")) == 2
    assert not capsys.readouterr().err


def test_catalogues_and_files_of_no_language_are_counted_and_said(tmp_path, capsys):
    for locale in ("de", "en@quot", "x-test"):
        path = tmp_path / "po" / locale / "LC_MESSAGES" / "a.po"
        path.parent.mkdir(parents=True)
        path.write_bytes(samples.po())
    assert len(read(tmp_path, "gettext", "po", ["*"])) == 3
    assert (
        "catalogues passed over: 1, of tags that are no language: 'x-test'"
        in capsys.readouterr().err
    )
    (tmp_path / "text").mkdir()
    for name in ("de", "en", "notes"):
        (tmp_path / "text" / f"{name}.train.txt").write_text("x\n")
    assert len(read(tmp_path, "tfds", "text", ["de"])) == 1
    assert "files passed over: 1, of tags that are no language: 'notes'" in capsys.readouterr().err


def test_what_a_corpus_calls_a_language_that_is_none_is_refused_for_any(tmp_path):
    (tmp_path / "a.tmx").write_bytes(samples.tmx(samples.unit(en="x", klingon="y")))
    with pytest.raises(DataError, match="a.tmx: language 'klingon' is not a code.*or list the"):
        read(tmp_path, "tmx", "a.tmx", ["*"])
