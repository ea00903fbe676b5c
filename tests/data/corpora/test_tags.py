"""Languages are known by tags of every scheme, and what is in none is counted and said."""
# SPDX-License-Identifier: Apache-2.0

import json

import pytest

from gshard_mt.errors import DataError
from tests.data.corpora import samples
from tests.data.corpora.samples import read


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
