"""A zoo of bad files: each is refused in one line that names the file and what is wrong with it."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib

import pytest

from gshard_mt.data.corpora import files
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.errors import DataError
from tests.cli.calling import call, command, refused
from tests.data.corpora import samples
from tests.data.corpora.samples import read
from tests.data.corpora.zoo.archives import BAD_ARCHIVES
from tests.data.corpora.zoo.bad import Bad, lay
from tests.data.corpora.zoo.catalogues import BAD_GETTEXT
from tests.data.corpora.zoo.datasets import BAD_TFDS
from tests.data.corpora.zoo.lines import BAD_MOSES, BAD_TSV, bad_text
from tests.data.corpora.zoo.memories import BAD_TMX
from tests.data.corpora.zoo.tables import BAD_JSONL, BAD_PARQUET

_BY_SCHEME = {
    "tsv": BAD_TSV,
    "moses": BAD_MOSES,
    "tmx": BAD_TMX,
    "jsonl": BAD_JSONL,
    "parquet": BAD_PARQUET,
    "gettext": BAD_GETTEXT,
    "tfds": BAD_TFDS,
}
ZOO: dict[str, Bad] = {
    **bad_text(),
    **BAD_ARCHIVES,
    **{f"{name}: {what}": bad for name, some in _BY_SCHEME.items() for what, bad in some.items()},
}


@pytest.mark.parametrize("what", ZOO)
def test_a_bad_file_is_refused_in_one_line(tmp_path, what, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    bad, folder = ZOO[what], tmp_path / "deep" / "down" / "here"  # with places to escape to
    folder.mkdir(parents=True)
    lay(folder, bad)
    first = str(folder / next(iter(bad.files), "nothing"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=bad.said.replace("FILE", first)) as caught:
        read(folder, bad.scheme, bad.location, bad.languages)
    assert len(str(caught.value).splitlines()) == 1
    names = [part.strip("*/\0").replace("\n", " ") for part in bad.location.split(",")]
    assert any(name in str(caught.value) for name in names)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked anywhere


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.tsv").write_bytes(samples.tsv())

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "_open", refuse)  # root may read everything
    with pytest.raises(DataError, match="a.tsv: can't be read: Permission denied$"):
        read(tmp_path, "tsv", "a.tsv")


def test_a_fetched_wheel_of_another_hash_is_refused(tmp_path):
    (tmp_path / "a.whl").write_bytes(samples.wheel())
    for scheme in ("wheel", "gettext"):
        with pytest.raises(DataError, match="a.whl: sha256 is .*, the recipe expects 000"):
            read(tmp_path, scheme, "a.whl", sha256="0" * 64)


_GOOD_RECIPE = """
name = "x"
[[corpus]]
language = "de"
source = "tsv:a.tsv"
license = "CC0-1.0"
"""

BAD_RECIPES = {
    "not TOML": ("name = ", "recipe.toml: not a recipe"),
    "a key twice": ('name = "x"\nname = "y"', "not a recipe"),
    "not UTF-8": (b"name = '\xff'", "not a recipe"),
    "UTF-16": ('name = "x"'.encode("utf-16"), "not a recipe"),
    "NUL": (b'name = "\0"', "not a recipe"),
    "JSON": ('{"name": "x"}', "not a recipe"),
    "nothing": ("", r"no \[\[corpus\]\] table"),
    "one table": ('[corpus]\nlanguage = "de"', r"no \[\[corpus\]\] table"),
    "corpora of text": ('corpus = ["tsv:a.tsv"]', r"no \[\[corpus\]\] table"),
    "name": (_GOOD_RECIPE.replace('"x"', "7"), "name: found 7, accepted: a string"),
    "unknown key": (_GOOD_RECIPE + 'speed = "x"', "corpus 1: unknown key 'speed'"),
    "near key": (_GOOD_RECIPE + 'splt = "x"', r"'splt'; did you mean split\?"),
    "unknown scheme": (_GOOD_RECIPE.replace("tsv:", "csv:"), "no known scheme, accepted: gettext:"),
    "no language": (_GOOD_RECIPE.replace('language = "de"', ""), "language is missing"),
    "bad language": (_GOOD_RECIPE.replace('"de"', '"xx"'), "'xx' is not in ISO 639"),
    "English": (_GOOD_RECIPE.replace('"de"', '"en-GB"'), "found 'en', which is the target"),
    "no languages": (_GOOD_RECIPE.replace('"de"', "[]"), r"language: found \[\], accepted"),
    "two for lines": (_GOOD_RECIPE.replace('"de"', '["de", "fr"]'), "this scheme: one code"),
    "any for lines": (_GOOD_RECIPE.replace('"de"', '"*"'), "this scheme: one code"),
    "any in a name": (
        _GOOD_RECIPE.replace('"de"', '"*"').replace("a.tsv", "{language}.tsv"),
        "accepted with {language} in source",
    ),
    "bad split": (_GOOD_RECIPE + 'split = "valid"', "split: found 'valid'"),
    "short hash": (_GOOD_RECIPE + 'sha256 = "12ab"', "sha256: found '12ab', accepted: 64"),
}


@pytest.mark.parametrize("what", BAD_RECIPES)
def test_a_bad_recipe_is_refused_in_one_line(tmp_path, what):
    content, said = BAD_RECIPES[what]
    path = tmp_path / "recipe.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


_CONFIG = """
from gshard_mt.config.records import Config

def get_config():
    config = Config()
    config.data.recipe = {recipe!r}
    config.data.num_workers = {num_workers}
    return config
"""
BY_COMMAND = [
    "tsv: long truncated gzip",
    "tsv: line end in the name",
    "moses: English is longer",
    "tmx: billion laughs",
    "jsonl: bad JSON at line 3",
    "parquet: another schema",
    "wheel: zip-slip",
    "tfds: unknown name",
]


def _prepare(folder: pathlib.Path, recipe: str, run=call, num_workers: int = 1) -> str:
    """The one line with which the command refuses a recipe."""
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    config = _CONFIG.format(recipe=str(folder / "recipe.toml"), num_workers=num_workers)
    (folder / "config.py").write_text(config, encoding="utf-8")
    data_dir = folder / "data"
    return refused(run("prepare_data", "--config", folder / "config.py", "--data_dir", data_dir))


@pytest.mark.parametrize("what", BY_COMMAND)
def test_the_command_ends_with_status_2_and_nothing_taken_for_whole(tmp_path, what):
    bad = ZOO[what]
    lay(tmp_path, bad)
    # Good text comes first, so that something is under way when the bad file is met.
    (tmp_path / "good.tsv").write_bytes(samples.tsv() * 50)
    source = json.dumps(f"{bad.scheme}:{bad.location}")  # as TOML writes a string
    recipe = _GOOD_RECIPE.replace("a.tsv", "good.tsv")
    recipe += f'[[corpus]]\nlanguage = "de"\nsource = {source}\nlicense = "x"\n'
    # Once in a process of its own, with workers whose messages would be seen, too.
    alone = {"run": command, "num_workers": 2} if what == BY_COMMAND[0] else {}
    said = _prepare(tmp_path, recipe, **alone)
    assert bad.location.split(",")[0].replace("\n", " ") in said
    manifest = tmp_path / "data" / "manifest.json"
    assert not manifest.exists() or json.loads(manifest.read_text())["finished"] is False


def test_the_command_refuses_a_bad_recipe_before_it_makes_anything(tmp_path):
    assert "recipe.toml" in _prepare(tmp_path, "name = ")
    assert not (tmp_path / "data").exists()
