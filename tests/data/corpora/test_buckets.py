"""Every kind of text is read from a bucket as from a folder."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import pytest

from gshard_mt.data.corpora.readers import files_of, num_bytes
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.data.prepare.decontamination import read_keep_out
from gshard_mt.errors import ConfigError, DataError, StorageError
from gshard_mt.storage.trees import upload_tree
from tests.data.corpora import samples

SOURCES = {
    "tsv": "x.tsv",
    "tsv glob": "t*/**/*.tsv",
    "moses": "x.de, x.en",
    "jsonl": "x.jsonl",
    "tmx": "x.tmx",
    "parquet": "x.parquet",
    "gettext": "de.po",
    "gettext folder": "po",
    "wheel": "x.whl",
    "tfds": "made",
    "tfds text": "lines",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("samples")
    contents = {
        "x.tsv": samples.tsv(),
        "two/a/1.tsv": samples.tsv(),
        "two/2.tsv": samples.tsv(),
        "x.de": samples.column(0),
        "x.en": samples.column(1),
        "x.jsonl": samples.jsonl(),
        "x.tmx": samples.tmx(),
        "x.parquet": samples.parquet(),
        "de.po": samples.po(),
        "po/de/LC_MESSAGES/a.po": samples.po(),
        "po/de/LC_MESSAGES/a.mo": samples.mo(),
        "po/de/LC_MESSAGES/b.mo": samples.mo(),
        "x.whl": samples.wheel(),
        "lines/de.train.txt": samples.column(0),
        "lines/en.train.txt": samples.column(1),
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    samples.dataset(folder / "made")
    return folder


def test_every_scheme_reads_the_same_from_a_bucket(bucket, folder):
    upload_tree(folder, bucket)
    for name, location in SOURCES.items():
        scheme = name.split()[0]
        expected = samples.read(folder, scheme, location)
        assert samples.read(bucket, scheme, location) == expected, name
        remote = ",".join(f"{bucket}/{each.strip()}" for each in location.split(","))
        entry = samples.entry(folder, scheme, remote)
        assert list(samples.SCHEMES[scheme].read(entry)) == expected, name
        local = samples.entry(folder, scheme, location)
        assert num_bytes(entry) == num_bytes(local)
        assert [path.relative_to(bucket).as_posix() for path in files_of(entry)] == [
            path.relative_to(folder).as_posix() for path in files_of(local)
        ]
    keys = read_keep_out(f"{bucket}/t*/*.tsv, {folder}/x.tsv")
    assert list(keys) == list(read_keep_out(f"{folder}/x.tsv"))
    with pytest.raises(ConfigError, match="no such file"):
        read_keep_out(f"{bucket}/none*.tsv")


def test_errors_name_the_object(bucket):
    (bucket / "x.tsv").write_text("one column\n")
    with pytest.raises(DataError, match=rf"^{bucket}/x.tsv:1: found 1 columns"):
        samples.read(bucket, "tsv", "x.tsv")
    for scheme, location in (("tsv", "y.tsv"), ("wheel", "y.whl"), ("moses", "y.de,y.en")):
        with pytest.raises(DataError, match=rf"^{bucket}/y.\w+: no such file"):
            samples.read(bucket, scheme, location)
    (bucket / "x.parquet").write_text("none")
    with pytest.raises(DataError, match=rf"^{bucket}/x.parquet: not a readable Parquet file"):
        samples.read(bucket, "parquet", "x.parquet")


def test_a_recipe_in_a_bucket_names_its_corpora(bucket):
    table = '[[corpus]]\nlanguage = "de"\nlicense = "x"\nsource = '
    (bucket / "r.toml").write_text(
        f'{table}"tsv:{bucket}/europarl.tsv.gz"\n{table}"moses:../a.de,../a.en"\n'
    )
    recipe = load_recipe(bucket / "r.toml")
    assert [entry.corpus_name for entry in recipe.entries] == ["europarl", "a"]
    assert recipe.entries[0].path == bucket / "europarl.tsv.gz"
    with pytest.raises(DataError, match=rf"^{bucket}/none.toml: no such recipe"):
        load_recipe(bucket / "none.toml")
    with pytest.raises(StorageError, match=r"^hdfs://x/y.tsv: found hdfs://"):
        samples.read(bucket, "tsv", "hdfs://x/y.tsv")
