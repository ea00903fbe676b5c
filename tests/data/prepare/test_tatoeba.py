"""137 real languages in one recipe: none is lost, and each is drawn as often as it should be.

Tatoeba is not part of the project; without it these tests are skipped. `make soak` prepares all of
it, `make test` a twentieth.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import tarfile
from typing import NamedTuple

import numpy as np
import pytest

from gshard_mt.config.records import DataConfig
from gshard_mt.data.mixture import make_mixture
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.languages import language_code
from tests.making.made_up import write_recipe

_ARCHIVE = pathlib.Path(__file__).parents[4] / "shared" / "data" / "tatoeba.tar.xz"
_NUM_LANGUAGES = 137
_NUM_DRAWS = 100_000
_MIN_LINES = 100  # of a language, in a twentieth of the text
_CODES = {"toki": "tok"}  # languages with another code in the archive

pytestmark = pytest.mark.skipif(not _ARCHIVE.exists(), reason=f"needs {_ARCHIVE.name}")


class Tatoeba(NamedTuple):
    files: dict[tuple[str, str], pathlib.Path]  # (ISO 639 code, split) -> file
    prepared: Prepared


@pytest.fixture(scope="module")
def tatoeba(tmp_path_factory, soak) -> Tatoeba:
    folder = tmp_path_factory.mktemp("tatoeba")
    with tarfile.open(_ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    files = {}
    for path in sorted(folder.rglob("*-en.*.tsv")):
        pair, split, _ = path.name.split(".")
        name = pair.removesuffix("-en")
        files[_CODES.get(name, name), split] = path
        if not soak:
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: max(_MIN_LINES, len(lines) // 20)]))
    corpora = [
        {"language": code, "split": split, "source": f"tsv:{path}", "license": "CC-BY-2.0-FR"}
        for (code, split), path in files.items()
    ]
    config = DataConfig(
        recipe=str(write_recipe(folder, corpora)),
        source_vocab_size=8000,
        target_vocab_size=4000,
        vocab_num_sentences=20_000 if soak else 10_000,
        num_test=10,
    )
    prepare(config, folder / "data")
    return Tatoeba(files, open_prepared(folder / "data"))


def test_every_language_is_prepared_with_its_text(tatoeba):
    codes = {language_code(code) for code, _ in tatoeba.files}
    assert len(codes) == _NUM_LANGUAGES
    assert set(tatoeba.prepared.language_pairs) == {f"{code}-en" for code in codes}
    assert min(tatoeba.prepared.train_pairs.values()) > 0
    for pair in tatoeba.prepared.language_pairs:
        assert len(tatoeba.prepared.reader(pair, "train")) == tatoeba.prepared.train_pairs[pair]


def test_every_line_read_is_kept_or_counted_as_dropped(tatoeba):
    for code in {code for code, _ in tatoeba.files}:
        info = tatoeba.prepared.manifest["pairs"][f"{language_code(code)}-en"]
        num_read = sum(
            path.read_bytes().count(b"\n")
            for (language, _), path in tatoeba.files.items()
            if language == code
        )
        kept = sum(info[split]["pairs"] for split in ("train", "dev", "test"))
        # A dev pair that is longer than a row stays in the references and is counted.
        assert kept + sum(info["drops"].values()) == num_read, code


def test_cleaning_leaves_most_of_every_language(tatoeba):
    kept = tatoeba.prepared.train_pairs
    for (code, split), path in tatoeba.files.items():
        if split == "train":
            num_read = path.read_bytes().count(b"\n")
            assert kept[f"{language_code(code)}-en"] > num_read / 2, code


@pytest.mark.parametrize("temperature", [1, 5, 100])
def test_shares_of_the_training_stream_are_those_of_the_temperature(tatoeba, temperature):
    counts = list(tatoeba.prepared.train_pairs.values())
    mixture = make_mixture(tatoeba.prepared.train_pairs, temperature, chunk_pairs=1000, seed=0)
    draws = np.zeros(len(counts), int)
    for chunk in range(_NUM_DRAWS // 1000):
        spans = [mixture.span(language, chunk) for language in range(len(counts))]
        draws += [stop - start for start, stop in spans]
    weights = np.array(counts, float) ** (1 / temperature)
    expected = _NUM_DRAWS * weights / weights.sum()
    # 1% of a share; of one under 200 draws that is less than the two draws that rounding may cost.
    assert (np.abs(draws - expected) <= np.maximum(0.01 * expected, 2)).all()
    assert abs(draws.sum() - _NUM_DRAWS) <= len(counts)


def test_the_report_has_every_language(tatoeba):
    for name in ("report.md", "report.html"):
        text = (tatoeba.prepared.directory / name).read_text(encoding="utf-8")
        missing = [pair for pair in tatoeba.prepared.language_pairs if text.count(pair) < 3]
        assert not missing, f"{name}: counts, shares or drops"
