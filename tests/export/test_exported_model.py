"""An exported model in place of its run: it translates and is evaluated the same, or is refused."""
# SPDX-License-Identifier: Apache-2.0

import json
import math
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from gshard_mt.decode import loading
from gshard_mt.decode.loading import load_translator
from gshard_mt.decode.translate import Translator
from gshard_mt.errors import CheckpointError
from gshard_mt.evaluate import report
from gshard_mt.export.folder import export
from gshard_mt.model.quantized import quantize_params
from gshard_mt.partitioning.axes import SUMMED, letters_of
from gshard_mt.run.calibration import (
    ConfidenceCurve,
    decode_keys,
    find_calibration,
    path_of,
    write_calibration,
)
from gshard_mt.run.exported import read_trained
from tests.cli.calling import call, refused
from tests.export.made_run import Made, make_run

LINES = ["Ein Hund läuft.", "", "Die Katze schläft auf dem Sofa, und niemand stört sie."]
TEST_SET = "".join(f"{line}\tA dog and a cat.\n" for line in LINES if line)


@pytest.fixture(scope="module")
def made(tmp_path_factory, config, prepared) -> Made:
    moe = {"num_experts": 8, "gate": "top2", "decoder_gate": "top1"}
    return make_run(tmp_path_factory.mktemp("exported"), config, prepared, moe, num_layers=4)


@pytest.fixture(scope="module")
def folder(made) -> pathlib.Path:
    out = made.workdir.parent / "model"
    export(made.workdir, out, "3")
    return out


def load(folder: pathlib.Path, step: str) -> Translator:
    return load_translator(folder, read_trained(folder).config, step)


def test_it_has_the_parameters_of_its_run(made, folder):
    run, model = load(made.workdir, "3"), load(folder, "latest")
    assert (model.step, model.name) == (3, "3")
    jax.tree.map(np.testing.assert_array_equal, model.params, run.params)


def test_in_bfloat16_it_is_rounded_once(made, tmp_path):
    export(made.workdir, tmp_path / "model", "3", "bfloat16")
    rounded, whole = load(tmp_path / "model", "3").params, load(made.workdir, "3").params
    for name in ("target_embedding_VM", "source_embedding_VM"):
        assert rounded[name].dtype == np.float32
        np.testing.assert_array_equal(rounded[name], whole[name].astype("bfloat16"))


def test_in_8_bits_it_is_small_and_translates_with_integers(made, folder, tmp_path, monkeypatch):
    small = tmp_path / "model"
    made_of = export(made.workdir, small, "3", "int8")
    run, model = load(made.workdir, "3"), load(small, "latest")
    jax.tree.map(np.testing.assert_array_equal, model.params, quantize_params(run.params))
    whole, part = (each / "model.safetensors" for each in (folder, small))
    matrices = sum(
        math.prod(each.shape) for each in made_of.tensors if letters_of(each.name) in SUMMED
    )
    assert whole.stat().st_size - part.stat().st_size > 2.5 * matrices  # scales of tiny matrices
    assert len(model.translate(LINES)) == len(LINES)

    # Without such instructions, and for a run that begins from it: the rounded floats.
    monkeypatch.setattr(loading, "has_fast_integers", lambda: False)
    rounded = load(small, "latest").params
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), rounded, run.params)
    table, exact = rounded["target_embedding_VM"], run.params["target_embedding_VM"]
    steps = np.abs(exact).max(1, keepdims=True) / 127
    error = np.abs(table - exact) / steps
    assert 0.4 < error.max() <= 0.5 + 1e-4


def test_a_missing_scale_is_named(made, tmp_path):
    export(made.workdir, tmp_path / "model", "3", "int8")
    path = tmp_path / "model" / "model.safetensors"
    held = safetensors.numpy.load_file(path)
    del held["target_embedding_VM.scale_V"]
    safetensors.numpy.save_file(held, path)
    with pytest.raises(CheckpointError, match="target_embedding_VM.scale_V missing"):
        load(tmp_path / "model", "latest")


def test_the_average_of_checkpoints_is_exported_as_it_is_translated_with(made, tmp_path):
    exported = export(made.workdir, tmp_path / "model", "average")
    assert (exported.step, exported.averaged, exported.name) == (7, (3, 7), "average-7")
    record = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert record["step"] == 7 and record["averaged_steps"] == [3, 7]
    assert "the mean of steps 3, 7" in (tmp_path / "model" / "README.md").read_text()
    average, both = load(tmp_path / "model", "latest"), load(made.workdir, "average")
    jax.tree.map(np.testing.assert_array_equal, average.params, both.params)
    other = load(made.workdir, "7").params["target_embedding_VM"]
    assert np.any(np.asarray(other) != np.asarray(average.params["target_embedding_VM"]))


def test_it_knows_of_its_run_what_commands_need(made, folder):
    run, exported = read_trained(made.workdir), read_trained(folder)
    assert exported.train_pairs == run.train_pairs == {"de-en": 300, "fr-en": 200}
    assert exported.data_fingerprint == run.data_fingerprint
    assert exported.config.model == run.config.model
    assert exported.config.decode == run.config.decode
    assert exported.config.data.temperature == run.config.data.temperature


def test_commands_print_the_same_of_both(made, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write", lambda report, folder: folder / "report.html")
    text = "".join(f"{line}\n" for line in LINES).encode()
    (tmp_path / "test.tsv").write_text(TEST_SET, encoding="utf-8")
    test_set = ("--testset", f"de-en={tmp_path / 'test.tsv'}", "--noleak_check")
    printed = []
    for own in (("--workdir", made.workdir, "--step", "3"), ("--model", folder)):
        translated = call("translate", *own, "--source_language", "deu", input=text)
        assert translated.returncode == 0, translated.stderr.decode()
        evaluated = call("evaluate", *own, *test_set)
        assert evaluated.returncode == 0, evaluated.stderr.decode()
        printed.append((translated.stdout, evaluated.stdout))
    assert printed[0] == printed[1] and b"de-en" in printed[0][1]
    assert len(list((folder / "eval" / "3").iterdir())) == 1


def test_confidence_is_that_of_the_run(made, tmp_path):
    config = read_trained(made.workdir).config.decode
    calibration = ConfidenceCurve(2.0, 1.0, 100, decode_keys(config))
    path = path_of(made.workdir, "average-7")
    path.parent.mkdir(parents=True)
    write_calibration(calibration, path)
    export(made.workdir, tmp_path / "model", "average")
    assert find_calibration(tmp_path / "model", "7", config) == calibration
    done = call("translate", "--model", tmp_path / "model", "--confidence", input=b"Hund\n")
    assert done.returncode == 0 and 0 < float(done.stdout.split(b"\t")[0]) < 1
    export(made.workdir, tmp_path / "small", "average", "int8")  # has other probabilities
    export(made.workdir, tmp_path / "other", "3")
    assert not (tmp_path / "small" / "eval").exists() and not (tmp_path / "other" / "eval").exists()


def test_an_output_of_a_model_is_resumed_with_the_same_model_only(made, folder, tmp_path):
    source, output = tmp_path / "source.txt", tmp_path / "english.txt"
    source.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    flags = ("--input", source, "--output", output, "--resume")
    first = call("translate", "--model", folder, *flags)
    again = call("translate", "--model", folder, *flags)
    assert first.returncode == again.returncode == 0, first.stderr.decode()
    assert "nothing to do" in again.stderr.decode() and len(output.read_text().splitlines()) == 3
    export(made.workdir, tmp_path / "other", "7")
    refused(call("translate", "--model", tmp_path / "other", *flags, "--step", "7"))


def test_what_is_no_model_is_one_line(made, folder, tmp_path):
    def error(*flags, command: str = "translate") -> str:
        return refused(call(command, *flags, input=b"ein Hund\n"))

    assert "--workdir: missing" in error() and "--model" in error()
    assert "accepted: one of them" in error("--workdir", made.workdir, "--model", folder)
    assert "--workdir" in error("--model", made.workdir)
    assert "found 7" in error("--model", folder, "--step", "7")
    assert "not trained on it" in error("--model", folder, "--source_language", "hu")
    assert "--data_dir: missing" in error("--model", folder, command="evaluate")
    assert "no model" in error("--model", tmp_path / "nothing")


def test_a_damaged_or_incomplete_export_is_one_line(folder, tmp_path):
    cut, older, other = (
        shutil.copytree(folder, tmp_path / name) for name in ("cut", "older", "other")
    )
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9])
    _rewrite(older / "config.json", lambda record: record.pop("train_pairs"))
    _rewrite(other / "config.json", lambda record: record["model"].update(ffn_dim=24))
    for path, expected in ((cut, "can't be read"), (older, "incomplete"), (other, "found array")):
        error = refused(call("translate", "--model", path, input=b"ein Hund\n"))
        assert expected in error and "export the run again" in error


def _rewrite(path: pathlib.Path, change) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
