"""A recipe says all it may say, and what it can't mean is refused in one line."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import pytest

from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.errors import DataError

_GOOD = {"language": '"de"', "source": '"tsv:a.tsv"', "license": '"CC0-1.0"'}


def _load(tmp_path: pathlib.Path, **changes: str):
    values = {key: value for key, value in {**_GOOD, **changes}.items() if value}
    lines = ['name = "x"', "[[corpus]]", *(f"{key} = {value}" for key, value in values.items())]
    (tmp_path / "recipe.toml").write_text("\n".join(lines), encoding="utf-8")
    return load_recipe(tmp_path / "recipe.toml")


def test_a_recipe_is_read(tmp_path):
    (entry,) = _load(tmp_path, language='"deu"').entries
    assert (entry.languages, entry.split, entry.scheme) == (("de",), "train", "tsv")
    assert entry.path == tmp_path / "a.tsv"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"licence": '"x"'}, r"unknown key 'licence'; did you mean license\?"),
        ({"license": ""}, "license is missing"),
        ({"language": '"xx"'}, "corpus 1: language 'xx' is not in ISO 639"),
        ({"language": '"eng"'}, "found 'en', which is the target"),
        ({"language": '"de-en"'}, "'de-en' is a pair of languages"),
        ({"language": '"mul"'}, "language 'mul' is not in ISO 639"),
        ({"language": '"roa-tara"'}, "has a script 'Tara' that is not in ISO 15924"),
        ({"language": "7"}, "language: found 7, accepted"),
        ({"language": '["de", "fr"]'}, "accepted for this scheme: one code"),
        ({"split": '"tset"'}, r"split: found 'tset'; did you mean test\?"),
        (
            {"source": '"ftp:x"'},
            "'ftp:x', which has no known scheme, accepted: gettext:, jsonl:, moses:, parquet:",
        ),
        ({"source": '"a.tsv"'}, "has no known scheme"),
        ({"source": "3"}, "source: found 3, accepted: a string"),
        ({"sha256": '"12"'}, "sha256: found '12', accepted: 64"),
        ({"name": '"a b"'}, "name: found 'a b', accepted: text without"),
        ({"name": "3"}, "name: found 3, accepted: text without"),
        ({"weight": "-1"}, "weight: found -1, accepted: a number, 0 or more"),
        ({"weight": "inf"}, "weight: found inf, accepted: a number, 0 or more"),
        ({"weight": "true"}, "weight: found True, accepted: a number, 0 or more"),
        ({"max_pairs": "0"}, "max_pairs: found 0, accepted: an integer, 1 or more"),
        ({"max_pairs": "1.5"}, "max_pairs: found 1.5, accepted: an integer, 1 or more"),
        ({"split": '"dev"', "weight": "2"}, "weight: found 2, accepted: none, as split is dev"),
        ({"cleaning": "{langauge = false}"}, "unknown key 'langauge'; did you mean language"),
        ({"cleaning": "{language = 1}"}, "language: found 1, accepted: true, false"),
        ({"cleaning": "{max_characters = true}"}, "max_characters: found True, accepted: a number"),
        ({"cleaning": "{duplicates = false}"}, "unknown key 'duplicates'"),
        ({"cleaning": "false"}, "cleaning: found False, accepted: a table"),
        ({"cleaning": "{bho = {langage = false}}"}, "bho: unknown key 'langage'; did you mean lan"),
        ({"cleaning": "{bho = {script = 1}}"}, "bho: script: found 1, accepted: true, false"),
        ({"cleaning": "{xx = {script = false}}"}, "cleaning: language 'xx' is not in ISO 639"),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused(tmp_path, changes, said):
    with pytest.raises(DataError, match=said) as caught:
        _load(tmp_path, **changes)
    assert str(caught.value).startswith(str(tmp_path / "recipe.toml"))
    assert "\n" not in str(caught.value)


def test_new_keys_leave_the_fingerprint_of_an_old_recipe_as_it_was(tmp_path):
    plain = _load(tmp_path).fingerprint()
    # Written down before there were names, weights and limits.
    assert plain == "da81f407dfe2bfce49a7ea4af3e78819a168d28f57e7e55d88dd1ca03eeb7a5b"
    assert _load(tmp_path, weight="1.0").fingerprint() == plain
    for changes in ({"name": '"mined"'}, {"weight": "2"}, {"max_pairs": "9"}):
        assert _load(tmp_path, **changes).fingerprint() != plain


@pytest.mark.parametrize(
    ("tables", "names"),
    [
        (['"tsv:europarl/*.tsv.gz"', '"tsv:/data/europarl.de-en.tsv"'],
         ["europarl-1", "europarl-2"]),
        (['"wheel:homeassistant==2025.1"', '"tfds:opus/medical:de-en"'],
         ["homeassistant", "medical"]),
        (['"tsv:*.tsv"', '"tsv:**/a.tsv"', '"moses:b/train.de,b/train.en"'], ["tsv", "a", "train"]),
        (['"tsv:one.tsv"\nname = "mine"', '"tsv:two.tsv"\nname = "mine"'], ["mine", "mine"]),
        (['"tsv:mined.tsv"', '"tsv:x.tsv"\nname = "mined"'], ["mined-1", "mined"]),
        (['"moses:{language}-en/a.{language},b.en"', '"tsv:{language}.tsv"'], ["a", "tsv"]),
    ],
)  # fmt: skip
def test_a_corpus_without_a_name_has_that_of_its_source(tmp_path, tables, names):
    lines = [f'[[corpus]]\nlanguage = "de"\nlicense = "x"\nsource = {each}' for each in tables]
    (tmp_path / "recipe.toml").write_text("\n".join(lines), encoding="utf-8")
    entries = load_recipe(tmp_path / "recipe.toml").entries
    assert [entry.corpus_name for entry in entries] == names


def test_settings_of_one_language_are_kept_by_its_code(tmp_path):
    (entry,) = _load(tmp_path, cleaning="{html = false, bho_Deva = {script = false}}").entries
    assert entry.cleaning == (("bho.script", False), ("html", False))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a = ", "not a recipe"),
        ('name = "x"', r"no \[\[corpus\]\]"),
        ("corpus = 3", r"no \[\[corpus\]\]"),
        ('nmae = "x"', "did you mean name"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, said):
    (tmp_path / "recipe.toml").write_text(content)
    with pytest.raises(DataError, match=said):
        load_recipe(tmp_path / "recipe.toml")


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing.toml: no such recipe"):
        load_recipe(tmp_path / "nothing.toml")


_LANGUAGES = {
    "home_assistant": 48,
    "home_assistant_smoke": 12,
    "django": 1,  # any that it has
    "opus100": 99,
    "tatoeba": 137,
    "ted": 54,
    "wmt30": 15,
}
_DATA = pathlib.Path(__file__).parents[3] / "data"


def test_every_recipe_of_the_project_is_counted():
    assert {path.stem for path in _DATA.glob("*.toml")} == set(_LANGUAGES)


@pytest.mark.parametrize("name", _LANGUAGES)
def test_the_recipes_of_the_project_load(name):
    recipe = load_recipe(_DATA / f"{name}.toml")
    assert len({code for entry in recipe.entries for code in entry.languages}) == _LANGUAGES[name]
    assert all(entry.license for entry in recipe.entries)


def test_a_language_in_a_source_makes_an_entry_for_each(tmp_path):
    languages = '["deu", "pt-BR"]'
    first, second = _load(
        tmp_path, language=languages, source='"moses:{language}.x,{language}.en"'
    ).entries
    assert (first.languages, first.location) == (("de",), "deu.x,deu.en")
    assert (second.languages, second.location) == (("pt",), "pt-BR.x,pt-BR.en")
    (sole,) = _load(tmp_path, language='"srp_Cyrl"').entries
    assert sole.languages == ("sr_Cyrl",)  # its text is in that script only
    (one,) = _load(tmp_path, language='"deu"', source='"tsv:{language}.tsv"').entries
    assert one.location == "deu.tsv"
