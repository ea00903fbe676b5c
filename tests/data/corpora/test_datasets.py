"""Data sets of TFDS give the pairs that they hold, made or found."""
# SPDX-License-Identifier: Apache-2.0

import gzip
import json
import pathlib
from typing import Any

import pytest
import tensorflow_datasets as tfds

from gshard_mt.data.corpora import tfds_datasets
from gshard_mt.data.corpora.entry import Pair
from gshard_mt.data.corpora.tfrecord import masked_crc
from tests.data.corpora import samples
from tests.data.corpora.samples import GERMAN, PAIRS, read


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> pathlib.Path:
    return samples.dataset(tmp_path_factory.mktemp("tfds"))


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
