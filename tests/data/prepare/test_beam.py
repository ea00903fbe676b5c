"""The Beam pipeline produces what the local one does, byte for byte, and reports user errors."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import errno
import json
import os
import pathlib
import random

import pytest

from gshard_mt.config.records import CleaningConfig, DataConfig
from gshard_mt.data.prepare import blocks, dedup, shards
from gshard_mt.data.prepare import local as local_pipeline
from gshard_mt.data.prepare.beam import output as beam_output
from gshard_mt.data.prepare.beam import steps as beam_steps
from gshard_mt.data.prepare.beam.pipeline import beam_pipeline
from gshard_mt.data.prepare.beam.results import ERROR, read_error, write_result
from gshard_mt.data.prepare.drops import Tally, dropped_pair, merge_tallies
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepare.selection import choose
from gshard_mt.data.prepare.subwords import sample_rows, sample_sizes
from gshard_mt.errors import ConfigError, DataError, UserError
from tests.making.made_up import files_of, write_lines, write_made_up, write_recipe, write_troubled
from tests.making.phrases import NUM_SENTENCES, sentence


@pytest.fixture
def small_parts(monkeypatch):
    """Cuts small text into many blocks, shards and parts, as large text is; in one process only."""
    monkeypatch.setattr(blocks, "BLOCK_PAIRS", 16)
    monkeypatch.setattr(dedup, "PART_ROWS", 100)
    for each in (shards, local_pipeline, beam_output):
        monkeypatch.setattr(each, "SHARD_BLOCKS", 3)


def _prepare_both(config: DataConfig, folder: pathlib.Path) -> tuple[dict, dict]:
    config = dataclasses.replace(config, num_workers=1)
    manifest, _ = prepare(config, folder / "local")
    prepare(config, folder / "beam", beam_pipeline("DirectRunner"))
    local, beam = files_of(folder / "local"), files_of(folder / "beam")
    assert list(local) == list(beam)
    assert not [name for name in local if local[name] != beam[name]]
    return manifest, local


def test_beam_writes_the_same_bytes_as_the_local_pipeline(tmp_path, small_parts):
    manifest, files = _prepare_both(write_troubled(tmp_path), tmp_path)
    # The text has all kinds of trouble and many parts; otherwise equality would prove little.
    drops = manifest["pairs"]["de-en"]["drops"]
    expected = {"duplicate", "near_duplicate", "held_out", "empty", "copied", "row_length"}
    expected |= {"max_pairs"}
    assert expected <= set(drops)
    assert [name for name in files if "de_en-train" in name and "00001-of" in name]
    assert b"one two" in files["references/fr-en.test.tsv"]
    assert manifest["pairs"]["pt-en"]["train"]["pairs"] == 0
    assert manifest["pairs"]["it-en"]["test"]["pairs"] == 1


def _write_mixed_languages(folder: pathlib.Path) -> DataConfig:
    """Writes real languages, one that identification doesn't know, each with others among them."""
    config = write_made_up(folder)  # its text is replaced
    numbers = range(0, NUM_SENTENCES, NUM_SENTENCES // 160)

    def lines(language: str, first: int, count: int) -> list[str]:
        some = [number + first for number in numbers][:count]
        return [f"{sentence(each, language)}\t{sentence(each, 'en')}" for each in some]

    planted = [*lines("fr", 1, 25), *lines("es", 2, 20)]
    swapped = ["\t".join(line.split("\t")[::-1]) for line in lines("de", 3, 12)]
    for language in ("de", "fo"):
        some = lines(language, 0, 150) + planted + swapped
        random.Random(0).shuffle(some)
        write_lines(folder / f"{language}.tsv", some)
    rows = []  # of two tags by turns
    for russian, german in zip(lines("ru", 4, 90), lines("de", 5, 70) + planted[:20], strict=True):
        for language, line in (("ru", russian), ("de", german)):
            source, english = line.split("\t")
            rows.append(json.dumps({"translation": {language: source, "en": english}}))
    write_lines(folder / "rows.jsonl", rows)
    sources = [("de", "tsv:de.tsv"), ("fo", "tsv:fo.tsv"), ("*", "jsonl:rows.jsonl")]
    corpora = [{"language": each, "source": path, "license": "x"} for each, path in sources]
    return dataclasses.replace(
        config,
        recipe=str(write_recipe(folder, corpora)),
        source_length=160,
        target_length=160,
        cleaning=CleaningConfig(),
    )


def test_beam_writes_the_same_bytes_with_identification(prepared, tmp_path, small_parts):
    config = _write_mixed_languages(tmp_path)
    config.extend_tokenizer, config.source_vocab_size = str(prepared.directory), 360
    assert config.cleaning.language and config.cleaning.swapped
    manifest, files = _prepare_both(config, tmp_path)
    for language in ("de", "fo"):
        assert manifest["pairs"][f"{language}-en"]["drops"]["language"] >= 40
        assert manifest["pairs"][f"{language}-en"]["drops"]["swapped"] >= 10
    assert b"does not know the language" in b"".join(files.values())
    assert manifest["tokenizer"]["source_size"] == 360
    assert manifest["tokenizer"]["extended_from"]["hash"] == prepared.tokenizer_hash


@pytest.mark.soak  # what these settings change is code that both pipelines share
def test_beam_writes_the_same_bytes_with_other_settings(tmp_path, small_parts):
    config = write_troubled(tmp_path)
    config.cleaning = CleaningConfig(near_duplicates=False)
    _prepare_both(
        dataclasses.replace(
            config, joint_vocabulary=True, vocab_num_sentences=150, keep_out="", seed=3
        ),
        tmp_path,
    )


def test_a_step_reports_a_user_error_in_one_line(tmp_path):
    config = write_made_up(tmp_path)
    with open(tmp_path / "fr.tsv", "a", encoding="utf-8") as file:
        file.write("one column\n")
    with pytest.raises(DataError, match="^.*fr.tsv:201: found 1 columns") as caught:
        prepare(config, tmp_path / "data", beam_pipeline("DirectRunner"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / ".work").exists()


@pytest.mark.parametrize("kind", [ConfigError, DataError, UserError])
def test_the_driver_raises_the_error_that_a_step_left(kind, tmp_path):
    write_result(kind("data.source_vocab_size is 9000; accepted: less"), ERROR, tmp_path)
    error = read_error(tmp_path)
    assert type(error) is kind and str(error) == "data.source_vocab_size is 9000; accepted: less"


def test_a_recipe_without_a_usable_pair_is_refused(tmp_path):
    config = write_made_up(tmp_path)
    with pytest.raises(DataError, match="no training pair is left"):
        choose(config, {}, {}, {}, {})
    with pytest.raises(DataError, match="no training pair is left"):
        sample_sizes({"de": 0}, config)


def test_a_full_disk_is_a_user_error_and_a_bug_is_not(tmp_path, monkeypatch):
    config = write_made_up(tmp_path)

    def fill(raw, calibrations, job):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def err(raw, calibrations, job):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(beam_steps, "clean", fill)
    with pytest.raises(DataError, match="No space left on device; free about"):
        prepare(config, tmp_path / "data", beam_pipeline("DirectRunner"))
    monkeypatch.setattr(beam_steps, "clean", err)
    with pytest.raises(Exception, match="a bug") as caught:
        prepare(config, tmp_path / "data", beam_pipeline("DirectRunner"))
    assert not isinstance(caught.value, DataError | ConfigError)


def test_unknown_runners_and_options_are_refused(tmp_path):
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


def test_the_first_samples_of_drops_are_kept_in_any_order_of_merging():
    parts = []
    for part in range(5):
        pairs = [dropped_pair(2 * part + place, f"{part} {place}", "x") for place in range(2)]
        parts.append(Tally(7, tuple(pairs)))
    forward = merge_tallies(parts)
    random.Random(1).shuffle(parts)
    halves = merge_tallies([merge_tallies(parts[:2]), merge_tallies(parts[2:])])
    assert forward == halves
    assert forward.number == 35
    assert [pair.source for pair in forward.samples] == ["0 0", "0 1", "1 0"]


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
