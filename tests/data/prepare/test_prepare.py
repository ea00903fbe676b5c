"""A prepared directory: nothing held out is trained on, all of it can be made again."""
# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import dataclasses
import errno
import json
import re
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from gshard_mt.config.records import AugmentationConfig, DataConfig
from gshard_mt.data.cleaning.fold import fold_all
from gshard_mt.data.prepare import clean_rows
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepare.subwords import train_models, with_capitals
from gshard_mt.data.prepared import open_prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import ConfigError, DataError
from tests.making.made_up import files_of, translated, write_made_up, write_recipe
from tests.making.phrases import sentence


def _decoded(prepared, pair, split):
    tokenizer = load_tokenizer(prepared.directory)
    reader = prepared.reader(pair, split)
    return [
        (tokenizer.source.decode(record.source.tolist()), tokenizer.decode_target(record.target))
        for record in reader.read(range(len(reader)))
    ]


def test_held_out_text_is_in_no_training_pair_of_any_language(prepared):
    held_out = [
        text
        for pair in prepared.language_pairs
        for split in ("dev", "test")
        for sentences in prepared.references(pair, split)
        for text in sentences
    ]
    assert held_out
    for pair in prepared.language_pairs:
        trained = [text for texts in _decoded(prepared, pair, "train") for text in texts]
        assert set(fold_all(trained)).isdisjoint(fold_all(held_out))


def test_every_language_gets_the_held_out_pairs_that_it_can_give(prepared, config):
    for pair in prepared.language_pairs:
        total = {"de-en": 343, "fr-en": 200, "lb-en": 60}[pair]
        for split, wanted in (("dev", config.num_dev), ("test", config.num_test)):
            english = [english for _, english in prepared.references(pair, split)]
            assert len(english) == min(wanted, total // 6)
            assert len(set(english)) == len(english)


def test_dev_and_test_have_no_sentence_in_common(prepared):
    english = {
        split: {e for pair in prepared.language_pairs for _, e in prepared.references(pair, split)}
        for split in ("dev", "test")
    }
    assert english["dev"].isdisjoint(english["test"])


def test_decoded_ids_are_the_references(prepared):
    for pair in prepared.language_pairs:
        assert _decoded(prepared, pair, "test") == prepared.references(pair, "test")


def test_tfds_opens_a_pair(prepared):
    builder = tfds.builder_from_directory(prepared.directory / "de-en")
    for split in ("train", "dev", "test"):
        source = builder.as_data_source(split=split)  # type: ignore[call-arg]
        reader = prepared.reader("de-en", split)
        assert len(source) == len(reader) == prepared.num_examples["de-en"][split]
        for index, record in zip(
            (0, len(source) - 1), reader.read([0, len(source) - 1]), strict=True
        ):
            assert source[index]["source"].dtype == np.int32
            assert np.array_equal(source[index]["source"], record.source)
            assert np.array_equal(source[index]["target"], record.target)


def test_two_preparations_are_the_same_byte_for_byte(prepared, config, tmp_path):
    prepare(config, tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(prepared.directory)


def test_a_finished_directory_is_left_as_it_is(config, tmp_path):
    first, was_there = prepare(config, tmp_path)
    before = files_of(tmp_path)
    second, is_there = prepare(dataclasses.replace(config, temperature=7.0), tmp_path)
    assert (was_there, is_there) == (False, True)
    assert first == second and before == files_of(tmp_path)
    with pytest.raises(DataError, match=r"data.num_dev 15 -> 3.*another --data_dir"):
        prepare(dataclasses.replace(config, num_dev=3), tmp_path)


def test_an_unfinished_directory_is_made_anew(config, prepared, tmp_path):
    prepare(config, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"finished": False}))
    (tmp_path / "xy-en").mkdir()
    with pytest.raises(DataError, match="not finished"):
        open_prepared(tmp_path)
    prepare(config, tmp_path)
    assert files_of(tmp_path) == files_of(prepared.directory)


def test_a_foreign_directory_is_never_touched(config, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="thesis.txt.*another --data_dir"):
        prepare(config, tmp_path)
    assert list(files_of(tmp_path)) == ["thesis.txt"]


def test_another_format_version_is_refused(prepared, tmp_path):
    manifest = json.loads((prepared.directory / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(DataError, match="found format_version 99, accepted: 1"):
        open_prepared(tmp_path)
    with pytest.raises(DataError, match="can.t be read .*; make it with gshard-prepare-data"):
        open_prepared(tmp_path / "nowhere")


def test_given_splits_are_used_and_their_overlap_leaves_training(tmp_path):
    config = dataclasses.replace(write_made_up(tmp_path), source_vocab_size=310)
    train = (tmp_path / "de.tsv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "test.tsv").write_text("\n".join([train[0], train[0], "eins zwei\t{x} y"]) + "\n")
    corpora = [
        {"language": "de", "source": "tsv:de.tsv", "license": "x"},
        {"language": "deu", "split": "test", "source": "tsv:test.tsv", "license": "x"},
        {"language": "fr", "source": "tsv:fr.tsv", "license": "x"},
    ]
    write_recipe(tmp_path, corpora)
    prepare(config, tmp_path / "data")
    prepared = open_prepared(tmp_path / "data")
    assert [english for _, english in prepared.references("de-en", "test")] == [
        train[0].split("\t")[1]
    ] * 2 + ["{x} y"]
    trained = {
        english
        for pair in prepared.language_pairs
        for _, english in _decoded(prepared, pair, "train")
    }
    assert train[0].split("\t")[1] not in trained
    assert prepared.num_examples["fr-en"]["test"] == 20


def test_every_pair_read_is_kept_or_counted_as_dropped(tmp_path):
    config = write_made_up(tmp_path)
    extra = "\ttwo words\nsame same\tsame same\nja {a}\tyes {b}\n" + "x" * 2000 + "\tlong\n"
    with open(tmp_path / "lb.tsv", "a", encoding="utf-8") as file:
        file.write(extra + extra[:11] + "a b\t" + "word " * 50 + "\n")
    num_lines = (tmp_path / "lb.tsv").read_text(encoding="utf-8").count("\n")
    manifest, _ = prepare(config, tmp_path / "data")
    info = manifest["pairs"]["lb-en"]
    kept = sum(info[split]["pairs"] for split in ("train", "dev", "test"))
    assert kept + sum(info["drops"].values()) == num_lines
    assert (
        info["drops"] | {"empty": 2, "copied": 1, "placeholders": 1, "too_long": 1} == info["drops"]
    )


def test_the_report_shows_counts_and_escapes_the_corpus(tmp_path):
    config = write_made_up(tmp_path)
    with open(tmp_path / "lb.tsv", "a", encoding="utf-8") as file:
        file.write("<script>alert(1)</script> | x\tno tags here\n")
    prepare(config, tmp_path / "data")
    page = (tmp_path / "data" / "report.html").read_text(encoding="utf-8")
    text = (tmp_path / "data" / "report.md").read_text(encoding="utf-8")
    assert "Luxembourgish" in page and "&lt;script&gt;alert" in page and "<script>" not in page
    assert "| T = 1 | T = 2 | T = 5 | T = 100 |" in text and "<script>" not in text


def test_a_joint_vocabulary_is_one_file(tmp_path):
    config = dataclasses.replace(write_made_up(tmp_path), joint_vocabulary=True)
    prepare(config, tmp_path / "data")
    assert [path.name for path in (tmp_path / "data" / "tokenizer").iterdir()] == ["joint.model"]
    tokenizer = load_tokenizer(tmp_path / "data")
    assert tokenizer.vocab_sizes == (config.source_vocab_size,) * 2


def test_a_vocabulary_that_is_too_small_for_the_characters_is_refused(tmp_path):
    config = dataclasses.replace(write_made_up(tmp_path), source_vocab_size=262)
    said = r"config.data.source_vocab_size: found 262, .*characters alone need (\d+).*accepted"
    with pytest.raises(ConfigError, match=said):
        prepare(config, tmp_path / "data")


def test_a_few_rare_characters_too_many_are_spelled_as_bytes(tmp_path, capsys):
    config = dataclasses.replace(write_made_up(tmp_path), source_vocab_size=290)
    with open(tmp_path / "lb.tsv", "a", encoding="utf-8") as file:
        file.write("".join(f"et gëtt {chr(0x4E00 + n)}\tthere is {n}\n" for n in range(60)))
    config.cleaning.script = False
    prepare(config, tmp_path / "data")
    assert load_tokenizer(tmp_path / "data").vocab_sizes[0] == 290
    assert "rarest are spelled as bytes" in capsys.readouterr().err


def test_the_rarest_characters_are_those_of_the_text_with_capitals(tmp_path, capsys):
    capitals = AugmentationConfig(upper_case=0.99)
    config = DataConfig(source_vocab_size=300, target_vocab_size=300, augmentation=capitals)
    config.character_coverage = 1.0
    lines = ["one two three four five"] * 3000 + list("бвгджзийклмнпрстуфхцчшщъыьэюя")
    train_models(lambda side: lines, config, tmp_path)
    assert load_tokenizer(tmp_path).vocab_sizes == (300, 300)
    assert capsys.readouterr().err.count("rarest are spelled as bytes") == 2  # source, English


@pytest.mark.parametrize("is_joint", [False, True])
def test_a_vocabulary_is_as_large_as_the_text_gives(tmp_path, capsys, is_joint):
    config = dataclasses.replace(
        write_made_up(tmp_path), source_vocab_size=9000, joint_vocabulary=is_joint
    )
    prepare(config, tmp_path / "data")
    size, _ = load_tokenizer(tmp_path / "data").vocab_sizes
    assert 300 < size < 1000
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "subwords" in each]
    assert line == f"data.source_vocab_size is 9000; the text gives {size} subwords"


def test_a_recipe_without_a_usable_pair_is_refused(tmp_path):
    config = write_made_up(tmp_path)
    (tmp_path / "one.tsv").write_text(f"{translated('same', 'de')}\t{translated('same', 'de')}\n")
    write_recipe(tmp_path, [{"language": "de", "source": "tsv:one.tsv", "license": "x"}])
    with pytest.raises(DataError, match="no training pair is left; .* --dry_run tells which"):
        prepare(config, tmp_path / "data")
    (tmp_path / "one.tsv").write_text("")
    with pytest.raises(DataError, match="tsv:one.tsv: no pairs in it"):
        prepare(config, tmp_path / "data")


def test_a_recipe_whose_pairs_are_all_too_long_is_refused_and_says_why(tmp_path, capsys):
    config = dataclasses.replace(write_made_up(tmp_path), source_length=4)
    with pytest.raises(DataError, match="no training pair is left"):
        prepare(config, tmp_path / "data")
    assert "row_length" in capsys.readouterr().err
    config.source_length = 40
    prepare(config, tmp_path / "data")  # the remains are replaced


def test_messages_are_one_line(tmp_path):
    config = dataclasses.replace(write_made_up(tmp_path), source_vocab_size=262)
    with pytest.raises(ConfigError) as caught:
        prepare(config, tmp_path / "data")
    assert not re.search(r"\n", str(caught.value))


def test_what_is_kept_out_is_in_no_training_pair(tmp_path):
    config = write_made_up(tmp_path)
    lines = (tmp_path / "de.tsv").read_text(encoding="utf-8").splitlines()
    kept_out = [line.split("\t")[1].upper() + "!" for line in lines[:30]]
    (tmp_path / "mine.txt").write_text("\n".join(kept_out) + "\n", encoding="utf-8")
    config = dataclasses.replace(config, keep_out=f"{tmp_path}/mine.*", source_vocab_size=300)
    prepare(config, tmp_path / "data")
    prepared = open_prepared(tmp_path / "data")
    trained = [
        english
        for pair in prepared.language_pairs
        for _, english in _decoded(prepared, pair, "train")
    ]
    assert set(fold_all(trained)).isdisjoint(fold_all(kept_out))
    with pytest.raises(ConfigError, match="data.keep_out: .*none.*no such file"):
        prepare(dataclasses.replace(config, keep_out=f"{tmp_path}/none"), tmp_path / "other")


def test_the_same_comes_out_of_any_number_of_workers(prepared, config, tmp_path):
    prepare(dataclasses.replace(config, num_workers=2), tmp_path / "data")
    assert files_of(tmp_path / "data") == files_of(prepared.directory)


def test_a_preparation_that_was_killed_starts_clean(prepared, config, tmp_path):
    program = (
        "import json, pathlib, os, signal, sys\n"
        "from gshard_mt.config.keys import from_json\n"
        "from gshard_mt.data.prepare import prepare, summary\n"
        "prepare.write_reports = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "config = from_json({'data': json.loads(sys.argv[2])}).data\n"
        "prepare.prepare(config, pathlib.Path(sys.argv[1]))\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "data")]
    done = subprocess.run([*words, json.dumps(dataclasses.asdict(config))], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "data" / ".work").is_dir()
    with pytest.raises(DataError, match="not finished"):
        open_prepared(tmp_path / "data")
    prepare(config, tmp_path / "data")
    assert files_of(tmp_path / "data") == files_of(prepared.directory)


def test_a_full_disk_is_one_line_and_leaves_nothing_finished(config, tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(clean_rows, "write_block", no_space)
    with pytest.raises(DataError, match="No space left on device; free about"):
        prepare(config, tmp_path / "data")
    assert sorted(files_of(tmp_path / "data")) == ["manifest.json"]
    with pytest.raises(DataError, match="not finished"):
        open_prepared(tmp_path / "data")


def test_shards_that_find_the_disk_full_have_an_errno(tmp_path):
    def limit():  # a file of more bytes is refused as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    program = (
        "import os, pathlib, sys; from gshard_mt.data.records import write_shard\n"
        "try: write_shard(pathlib.Path(sys.argv[1]), (os.urandom(999) for _ in range(999)))\n"
        "except OSError as error: print(error.errno)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "shard")]
    done = subprocess.run(words, capture_output=True, preexec_fn=limit, check=True)
    assert int(done.stdout) == errno.EFBIG
    assert not files_of(tmp_path)


def test_a_second_preparation_waits_and_finds_the_work_done(prepared, config, tmp_path, capsys):
    data_dir = tmp_path / "data"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: prepare(config, data_dir), range(2)))
    assert sorted(is_there for _, is_there in both) == [False, True]
    assert both[0][0] == both[1][0]
    assert files_of(data_dir) == files_of(prepared.directory)
    waiting = f"{data_dir}: waiting for the gshard-prepare-data that prepares it"
    assert capsys.readouterr().err.count(waiting) == 1


def test_workers_leave_ctrl_c_to_the_command(config, tmp_path):
    # A background job ignores SIGINT, and its children do.
    program = (
        "import os, pathlib, signal, sys\n"
        "from gshard_mt.data.prepare.workers import local_workers\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    with local_workers(2) as workers:\n"
        "        list(workers.map(os.getpid, [()]))\n"
        "        os.killpg(0, signal.SIGINT)\n"
        "        list(workers.map(os.getpid, [()]))\n"
    )
    (tmp_path / "program.py").write_text(program)
    words = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(words, capture_output=True, text=True, start_new_session=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.count("KeyboardInterrupt") == 1 and "SpawnProcess" not in done.stderr


def test_a_language_with_too_little_text_for_a_test_set_is_named(tmp_path, capsys):
    config = write_made_up(tmp_path)
    content = (tmp_path / "lb.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "lb.tsv").write_text("".join(content[:4]), encoding="utf-8")
    manifest, _ = prepare(config, tmp_path / "data")
    assert manifest["pairs"]["lb-en"]["test"]["pairs"] == 0
    assert "no test pairs: lb-en, too little text to hold some out" in capsys.readouterr().err


def test_the_tokenizer_of_other_data_is_used_again(prepared, config, tmp_path):
    again = dataclasses.replace(config, tokenizer=str(prepared.directory), num_dev=3)
    prepare(again, tmp_path / "data")
    assert open_prepared(tmp_path / "data").tokenizer_hash == prepared.tokenizer_hash
    assert prepare(again, tmp_path / "data")[1]
    with pytest.raises(
        ConfigError, match="config.data.source_vocab_size: found 329, .* has 330, accepted"
    ):
        prepare(dataclasses.replace(again, source_vocab_size=329), tmp_path / "other")
    with pytest.raises(DataError, match="none/tokenizer/source.model"):
        prepare(dataclasses.replace(again, tokenizer=f"{tmp_path}/none"), tmp_path / "other")


def test_the_tokenizer_of_other_data_is_extended(prepared, tmp_path):
    config = dataclasses.replace(write_made_up(tmp_path), extend_tokenizer=str(prepared.directory))
    pairs = [(number, sentence(number, "ru"), sentence(number, "en")) for number in range(400)]
    content = "".join(f"{russian}\t{english}\n" for _, russian, english in pairs)
    (tmp_path / "ru.tsv").write_text(content, encoding="utf-8")
    write_recipe(tmp_path, [{"language": "ru", "source": "tsv:ru.tsv", "license": "x"}])
    config.source_length = config.target_length = 150
    config.source_vocab_size = 400  # of the target model, none are added
    manifest, _ = prepare(config, tmp_path / "data")
    old, new = load_tokenizer(prepared.directory), load_tokenizer(tmp_path / "data")
    record = {"hash": old.hash, "source_size": 330, "target_size": 290}
    assert manifest["tokenizer"] == {
        **{"hash": new.hash, "source_size": 400, "target_size": 290},
        "extended_from": record,
    }
    report = (tmp_path / "data" / "report.md").read_text(encoding="utf-8")
    assert f"made of {old.hash[:16]}, which has 330 of the 400 source subwords and 290" in report
    for id in range(330):
        assert new.source.id_to_piece(id) == old.source.id_to_piece(id)
    names = [
        folder / "tokenizer" / "target.model" for folder in (prepared.directory, tmp_path / "data")
    ]
    assert names[0].read_bytes() == names[1].read_bytes()
    german = [german for german, _ in prepared.references("de-en", "test")]
    assert new.encode_source(german) == old.encode_source(german)
    before, after = (each.encode_source([pair[1] for pair in pairs]) for each in (old, new))
    assert sum(map(len, after)) < 0.5 * sum(map(len, before))
    assert prepare(config, tmp_path / "data")[1]
    for changes, error in (
        (
            {"source_vocab_size": 329},
            "config.data.source_vocab_size: found 329, .* or no data.extend_tokenizer",
        ),
        ({"joint_vocabulary": True}, "data.joint_vocabulary: found True, .* has False"),
        ({"case_marks": True}, "data.case_marks: found True, .* has False"),
    ):
        with pytest.raises(ConfigError, match=error):
            prepare(dataclasses.replace(config, **changes), tmp_path / "other")
    with pytest.raises(DataError, match=f"data.extend_tokenizer {old.hash} -> {new.hash}"):
        extended = dataclasses.replace(config, extend_tokenizer=str(tmp_path / "data"))
        prepare(extended, tmp_path / "data")


def test_joint_models_and_case_marks_are_extended(tmp_path):
    config = dataclasses.replace(write_made_up(tmp_path), joint_vocabulary=True, case_marks=True)
    prepare(config, tmp_path / "old")
    larger = dataclasses.replace(config, extend_tokenizer=f"{tmp_path}/old", source_vocab_size=345)
    prepare(larger, tmp_path / "new")
    old, new = (load_tokenizer(tmp_path / name) for name in ("old", "new"))
    assert (new.source is new.target, new.has_case_marks) == (True, True)
    assert old.vocab_sizes == (330, 330) and 330 < new.vocab_sizes[0] <= 345
    (ids,) = new.encode_target(["the CAT sees"])
    assert new.decode_target(ids) == "the CAT sees"


def test_the_vocabulary_is_trained_on_as_much_capital_text_as_the_model_will_be(config, tmp_path):
    config = dataclasses.replace(config, source_vocab_size=400, target_vocab_size=400)
    loud = dataclasses.replace(config, augmentation=AugmentationConfig(upper_case=0.5))
    lines = ["the cat", "the dog"] * 500
    found = list(with_capitals(lines, AugmentationConfig(upper_case=0.3, title_case=0.1)))
    assert abs(sum(line.isupper() for line in found) - 300) <= 2
    assert abs(sum(line.istitle() for line in found) - 100) <= 2
    assert list(with_capitals(lines, AugmentationConfig(typos=0.9))) == lines
    prepare(loud, tmp_path / "loud")
    prepare(config, tmp_path / "plain")
    loud_tokens, plain_tokens = (
        len(load_tokenizer(tmp_path / name).encode_target(["THE DOG SEES THE CAT"])[0])
        for name in ("loud", "plain")
    )
    assert loud_tokens < 0.7 * plain_tokens
    with pytest.raises(DataError, match="data.augmentation.upper_case None -> 0.5"):
        prepare(loud, tmp_path / "plain")
    quiet = AugmentationConfig(typos=0.5)  # changes nothing in the prepared data
    assert prepare(dataclasses.replace(config, augmentation=quiet), tmp_path / "plain")[1]
