"""Data prepared in a bucket, from text in one, are those of a local folder, whole or not there."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import re
import shutil

import numpy as np
import pytest

from gshard_mt.config.records import CleaningConfig, DataConfig
from gshard_mt.data.manifest import NAME
from gshard_mt.data.prepare.changes import describe_changes
from gshard_mt.data.prepare.local import run_locally
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepared import open_prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import DataError
from gshard_mt.storage.bucket_path import BucketPath
from gshard_mt.storage.trees import upload_tree
from tests.making import buckets
from tests.making.made_up import english_sentences, translated


def files(folder: pathlib.Path) -> dict[str, bytes]:
    is_there = isinstance(folder, BucketPath)
    paths = folder.objects() if is_there else filter(pathlib.Path.is_file, folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def one_process(config) -> DataConfig:
    return dataclasses.replace(config, num_workers=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> DataConfig:
    """One language: enough where only the way of the files matters."""
    folder = tmp_path_factory.mktemp("small")
    lines = [f"{translated(text, 'de')}\t{text}\n" for text in english_sentences()[:80]]
    (folder / "de.tsv").write_text("".join(lines))
    (folder / "recipe.toml").write_text(
        '[[corpus]]\nlanguage = "de"\nsource = "tsv:de.tsv"\nlicense = "CC0-1.0"\n'
    )
    return DataConfig(
        recipe=str(folder / "recipe.toml"),
        source_vocab_size=300,
        target_vocab_size=300,
        num_dev=4,
        num_test=4,
        num_workers=1,
        cleaning=CleaningConfig(script=False, language=False, near_duplicates=False),
    )


def test_a_bucket_holds_what_a_folder_would(bucket, one_process, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    upload_tree(pathlib.Path(one_process.recipe).parent, bucket / "text")
    config = dataclasses.replace(one_process, recipe=str(bucket / "text" / "recipe.toml"))
    data = bucket / "data"
    manifest, is_there = prepare(config, data)
    prepare(config, tmp_path / "local")
    uploaded, local, from_disk = map(files, (data, tmp_path / "local", prepared.directory))
    assert not is_there and uploaded == local
    local[NAME] = from_disk[NAME]  # which names another recipe
    assert local == from_disk
    assert prepare(config, data) == (manifest, True)
    assert not list(tmp_path.glob("cache/*.stage")) and not list(tmp_path.glob("[gs][s3]:"))
    assert describe_changes(config, data) == ""
    (bucket / "text" / "de.tsv").write_text("other")
    # An object's time is one of whole seconds: within one, only its size tells that it changed.
    assert re.match(rf"{data}: (\S+/|tsv:)de.tsv changed after", describe_changes(config, data))

    found = open_prepared(data)
    assert found.fingerprint == open_prepared(tmp_path / "local").fingerprint
    assert load_tokenizer(data).hash == load_tokenizer(prepared.directory).hash
    for pair, splits in prepared.num_examples.items():
        for split in splits:
            there, here = (each.reader(pair, split) for each in (found, prepared))
            every = np.arange(len(here))
            assert there.read_contents(every) == here.read_contents(every)
        assert found.references(pair, "test") == prepared.references(pair, "test")


def test_what_is_half_uploaded_is_not_taken_for_whole(bucket, small, monkeypatch, tmp_path):
    upload = BucketPath.upload
    num_left = 3

    def stop(self, file):
        nonlocal num_left
        num_left -= 1
        if not num_left:
            raise KeyboardInterrupt
        upload(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(BucketPath, "upload", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(small, bucket)
    with pytest.raises(DataError, match="preparation was not finished"):
        open_prepared(bucket)

    def never(job):
        raise AssertionError("it is prepared and only has to be uploaded")

    prepare(small, bucket, never)
    prepare(small, tmp_path / "local")
    assert files(bucket) == files(tmp_path / "local")


def test_one_stopped_while_it_prepares_starts_again(bucket, small):
    def stop(job):
        run_locally(job)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(small, bucket, stop)
    prepare(dataclasses.replace(small, num_dev=5), bucket)  # what is left is of no other settings
    assert open_prepared(bucket).num_examples["de-en"]["dev"] == 5
    with pytest.raises(DataError, match="other settings.*num_dev 5 -> 4"):
        prepare(small, bucket)


def test_a_folder_of_other_things_is_refused_before_the_work(bucket, small):
    def never(job):
        raise AssertionError("refused before")

    (bucket / "mine.txt").write_text("")
    with pytest.raises(DataError, match=r"not empty \(has mine.txt\)"):
        prepare(small, bucket, never)
    assert [path.name for path in bucket.iterdir()] == ["mine.txt"]


def test_others_that_write_into_it_are_noticed(bucket, small, tmp_path):
    def disturb(job):
        (bucket / "tokenizer" / "new.model").write_text("")
        return run_locally(job)

    with pytest.raises(DataError, match="new.model: changed by another program"):
        prepare(small, bucket, disturb)
    with pytest.raises(DataError, match="not finished"):
        open_prepared(bucket)

    def claim(job):
        other = (bucket / NAME).read_text().replace('"num_dev": 4', '"num_dev": 9')
        (bucket / NAME).write_text(other)
        return run_locally(job)

    shutil.rmtree(tmp_path / "cache")  # else it is not prepared again
    with pytest.raises(DataError, match="num_dev 9 -> 4"):
        prepare(small, bucket, claim)


def test_a_busy_store_costs_only_time(bucket, small, tmp_path, monkeypatch, no_pauses):
    scheme = bucket.parts[0][:2]
    upload_tree(pathlib.Path(small.recipe).parent, bucket / "text")
    server = buckets.server(scheme)
    with buckets.failing(server, rate=0.1) as url, monkeypatch.context() as patch:
        for name, value in buckets.environment(scheme, url).items():
            patch.setenv(name, value)
        config = dataclasses.replace(small, recipe=str(bucket / "text" / "recipe.toml"))
        prepare(config, bucket / "data")
        reader = open_prepared(bucket / "data").reader("de-en", "train")
        assert len(reader.read_contents(range(len(reader)))) == len(reader)
    prepare(config, tmp_path / "local")
    assert files(bucket / "data") == files(tmp_path / "local")
