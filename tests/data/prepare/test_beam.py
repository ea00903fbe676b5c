"""The Beam pipeline makes what the local one makes, byte for byte, and says what went wrong."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import errno
import os
import pathlib
import random

import pytest

from gshard_mt.config.records import DataConfig
from gshard_mt.data.prepare import blocks, dedup, shards
from gshard_mt.data.prepare import local as local_pipeline
from gshard_mt.data.prepare.beam import output as beam_output
from gshard_mt.data.prepare.beam import steps as beam_steps
from gshard_mt.data.prepare.beam.pipeline import beam_pipeline
from gshard_mt.data.prepare.drops import Drops, merge_tallies, tally
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepare.subwords import sample_rows
from gshard_mt.errors import ConfigError, DataError
from tests.making.made_up import english_sentences, translated, write_made_up, write_recipe


def _files(folder: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _lines(language: str, sentences: list[str]) -> list[str]:
    return [f"{translated(sentence, language)}\t{sentence}" for sentence in sentences]


def _write(path: pathlib.Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_troubled(folder: pathlib.Path) -> DataConfig:
    """Duplicates, near duplicates, dirt, leaks, a ready-made test, locales, one file twice."""
    config = write_made_up(folder)
    english = english_sentences()
    dirt = ["\tno source", "same same\tsame same", "ja {a}\tyes {b}", "x" * 2000 + "\tlong"]
    dirt += ["a b\t" + "word " * 60]
    numbers = [f"Zimmer {n} ist hübsch heute\tRoom {n} is nice today" for n in (1, 2, 3, 22)]
    german = _lines("de", english)
    random.Random(0).shuffle(german)
    _write(folder / "de.tsv", german[:200] + dirt + german[:50] + numbers)
    _write(folder / "de_more.tsv", [line.upper() for line in german[:30]] + german[150:] + dirt)
    _write(folder / "lb.tsv", _lines("lb", english[:60]) + dirt[:2])
    # English that French hasn't: German has more of what is held out than it needs.
    _write(folder / "es.tsv", _lines("lb", english[250:330]))
    _write(folder / "fr_test.tsv", [*_lines("fr", english[3:9]), "un deux\tone two", "\tempty"])
    (folder / "mine.txt").write_text(english[60].upper() + "!\n")
    corpora = [("de", "de.tsv", "train"), ("de-AT", "de_more.tsv", "train")]
    corpora += [("de-CH", "de.tsv", "train"), ("fr", "fr.tsv", "train")]
    corpora += [("fra", "fr_test.tsv", "test"), ("lb", "lb.tsv", "train")]
    corpora += [("es", "es.tsv", "train")]
    write_recipe(
        folder,
        [
            {"language": language, "source": f"tsv:{file}", "split": split, "license": "x"}
            for language, file, split in corpora
        ],
    )
    return dataclasses.replace(config, keep_out=str(folder / "mine.txt"))


@pytest.fixture
def small_parts(monkeypatch):
    """Small text in many blocks, shards and parts, as large text is. One process: patches hold."""
    monkeypatch.setattr(blocks, "BLOCK_PAIRS", 16)
    monkeypatch.setattr(dedup, "PART_ROWS", 100)
    for each in (shards, local_pipeline, beam_output):
        monkeypatch.setattr(each, "SHARD_BLOCKS", 3)


def _prepare_both(config: DataConfig, folder: pathlib.Path) -> tuple[dict, dict]:
    config = dataclasses.replace(config, num_workers=1)
    manifest, _ = prepare(config, folder / "local")
    prepare(config, folder / "beam", beam_pipeline("DirectRunner"))
    local, beam = _files(folder / "local"), _files(folder / "beam")
    assert list(local) == list(beam)
    assert not [name for name in local if local[name] != beam[name]]
    return manifest, local


def test_beam_makes_the_same_bytes_of_troubled_text(tmp_path, small_parts):
    manifest, files = _prepare_both(_write_troubled(tmp_path), tmp_path)
    # That the text is troubled, and its parts are many: else the same says little.
    drops = manifest["pairs"]["de-en"]["drops"]
    expected = {"duplicate", "near_duplicate", "held_out", "empty", "copied", "row_length"}
    assert expected <= set(drops)
    assert [name for name in files if "de_en-train" in name and "00001-of" in name]
    assert b"one two" in files["references/fr-en.test.tsv"]


def test_beam_makes_the_same_bytes_with_other_settings(tmp_path, small_parts):
    config = _write_troubled(tmp_path)
    config.cleaning.near_duplicates = False
    _prepare_both(
        dataclasses.replace(
            config, joint_vocabulary=True, vocab_num_sentences=150, keep_out="", seed=3
        ),
        tmp_path,
    )


def test_a_language_with_a_test_alone_and_one_with_nothing_left_come_out_the_same(tmp_path):
    config = dataclasses.replace(write_made_up(tmp_path), source_vocab_size=300)
    _write(tmp_path / "it.tsv", ["uno due\tone two"])
    _write(tmp_path / "es.tsv", ["same\tsame"])
    write_recipe(
        tmp_path,
        [
            {"language": "de", "source": "tsv:de.tsv", "license": "x"},
            {"language": "it", "source": "tsv:it.tsv", "license": "x", "split": "test"},
            {"language": "es", "source": "tsv:es.tsv", "license": "x"},
        ],
    )
    manifest, _ = _prepare_both(config, tmp_path)
    assert list(manifest["pairs"]) == ["de-en", "es-en", "it-en"]


def test_what_a_step_refuses_is_the_users_one_line(tmp_path):
    config = write_made_up(tmp_path)
    run = beam_pipeline("DirectRunner")
    large = dataclasses.replace(config, source_vocab_size=9000)
    with pytest.raises(ConfigError, match="^data.source_vocab_size is 9000; .*at most"):
        prepare(large, tmp_path / "data", run)
    with open(tmp_path / "fr.tsv", "a", encoding="utf-8") as file:
        file.write("one column\n")
    with pytest.raises(DataError, match="^.*fr.tsv:201: 1 columns") as caught:
        prepare(config, tmp_path / "data", run)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / ".work").exists()
    _write(tmp_path / "fr.tsv", [])
    with pytest.raises(DataError, match="tsv:fr.tsv: no pairs in it"):
        prepare(config, tmp_path / "data", run)


def test_a_recipe_without_a_usable_pair_is_refused(tmp_path):
    config = write_made_up(tmp_path)
    _write(tmp_path / "one.tsv", ["same\tsame"])
    write_recipe(tmp_path, [{"language": "de", "source": "tsv:one.tsv", "license": "x"}])
    with pytest.raises(DataError, match="no training pair is left"):
        prepare(config, tmp_path / "data", beam_pipeline("DirectRunner"))


def test_a_full_disk_is_the_users_one_line_and_a_bug_is_not(tmp_path, monkeypatch):
    config = write_made_up(tmp_path)

    def fill(raw, job):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def err(raw, job):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(beam_steps, "clean", fill)
    with pytest.raises(DataError, match="No space left on device; make room"):
        prepare(config, tmp_path / "data", beam_pipeline("DirectRunner"))
    monkeypatch.setattr(beam_steps, "clean", err)
    with pytest.raises(Exception, match="a bug") as caught:
        prepare(config, tmp_path / "data", beam_pipeline("DirectRunner"))
    assert not isinstance(caught.value, DataError | ConfigError)


def test_runners_and_options_that_beam_has_not_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--runner: found Flink; did you mean FlinkRunner"):
        beam_pipeline("Flink")
    with pytest.raises(ConfigError, match="^--beam_options: .*invalid int value: 'many'"):
        beam_pipeline("DirectRunner", "--direct_num_workers=many")
    with pytest.raises(ConfigError, match="^--beam_options: No closing quotation"):
        beam_pipeline("DirectRunner", "--job_name='x")
    run = beam_pipeline("DataflowRunner")
    with pytest.raises(ConfigError, match="^--runner=DataflowRunner: can't be started") as caught:
        prepare(write_made_up(tmp_path), tmp_path / "data", run)
    assert "\n" not in str(caught.value)


def test_the_first_samples_of_drops_are_kept_in_whatever_order_they_come():
    parts = []
    for part in range(5):
        drops = Drops()
        sentences = [(f"{part} {place}", "x") for place in range(2)]
        drops.add("de", "empty", 7, sentences)
        parts += [each for _, each in tally(drops, part)]
    forward = merge_tallies(parts)
    random.Random(1).shuffle(parts)
    halves = merge_tallies([merge_tallies(parts[:2]), merge_tallies(parts[2:])])
    assert forward == halves
    assert forward.number == 35
    assert [source for *_, source, _ in forward.samples] == ["0 0", "0 1", "1 0"]


@pytest.mark.parametrize(("num_pairs", "num_wanted"), [(10, 0), (10, 3), (10, 10), (7, 23), (1, 5)])
def test_blocks_sample_together_what_one_block_would(num_pairs, num_wanted):
    repeats, rest = divmod(num_wanted, num_pairs)
    expected = sorted([n * num_pairs // rest for n in range(rest)] + [*range(num_pairs)] * repeats)
    for size in (1, 2, 3, num_pairs):
        found = []
        for start in range(0, num_pairs, size):
            number = min(size, num_pairs - start)
            found += [start + i for i in sample_rows(start, number, num_pairs, num_wanted)]
        assert sorted(found) == expected
