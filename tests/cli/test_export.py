"""gshard-export as a user types it: one line for errors, and no folder that only looks whole."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import stat
import subprocess
import sys
import time

import ctranslate2
import pytest

from gshard_mt.export.folder import UNFINISHED
from tests.cli.calling import call, command, first_devices, refused
from tests.export import plain_model
from tests.export.made_run import make_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, config, prepared) -> pathlib.Path:
    data = dataclasses.replace(config)
    folder = tmp_path_factory.mktemp("home")
    return make_run(folder, data, prepared, {"gate": "top1"}, ffn_dim=256).workdir


@pytest.fixture(scope="module")
def dense(tmp_path_factory, config, prepared) -> pathlib.Path:
    data = dataclasses.replace(config)
    folder = tmp_path_factory.mktemp("dense")
    return make_run(folder, data, prepared, {"num_experts": 0}, ffn_dim=256).workdir


def test_a_run_becomes_a_folder(workdir, tmp_path):
    out = tmp_path / "new" / "out"
    flags = ("--workdir", workdir, "--out", out, "--step", "best", "--dtype", "bfloat16")
    flags += ("--license", "cc-by-4.0")
    done = command("export", *flags)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    model = plain_model.read(out)
    number = model.config["num_parameters"]
    assert done.stdout.decode().startswith(f"step 3: {number:,} parameters in bfloat16, ")
    file, other = (
        stat.S_IMODE((out / name).stat().st_mode) for name in ("model.safetensors", "README.md")
    )
    assert file == other
    assert "\nlicense: cc-by-4.0\n" in (out / "README.md").read_text(encoding="utf-8")


def test_a_model_in_8_bits_translates(workdir, tmp_path):
    flags = ("--workdir", workdir, "--out", tmp_path / "out", "--dtype", "int8")
    with first_devices(1):
        done = call("export", *flags)
    assert done.returncode == 0, done.stderr.decode()
    assert " parameters in int8, " in done.stdout.decode()
    done = call("translate", "--model", tmp_path / "out", input=b"ein Hund\n")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"\n") == 1


def test_a_bad_flag_is_one_line(workdir, tmp_path):
    flags = ("--workdir", workdir)
    line = refused(call("export", *flags, "--out", tmp_path / "out", "--dtype=float16"))
    assert "dtype" in line and "float32" in line
    line = refused(call("export", *flags, "--out", tmp_path / "out", "--license=CC-BY-4.0"))
    assert "--license" in line and "'CC-BY-4.0'" in line and "cc-by-4.0" in line
    assert "--out: missing" in refused(call("export", *flags))
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_map_is_learned_from_the_data(dense, prepared, tmp_path):
    out = tmp_path / "out"
    flags = ("--workdir", dense, "--out", out, "--vmap")
    assert "--vmap: found with --format safetensors" in refused(call("export", *flags))
    flags += ("--format=ctranslate2",)
    with first_devices(1):
        assert "give --data_dir" in refused(call("export", *flags))
        done = call("export", *flags, "--data_dir", prepared.directory)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "use_vmap=True" in (out / "README.md").read_text(encoding="utf-8")
    allowed = {}
    for line in (out / "vmap.txt").read_text(encoding="utf-8").splitlines():
        source, _, target = line.partition("\t")
        allowed[source] = set(target.split())
    pieces = [piece for piece in allowed if piece][:3]
    translator = ctranslate2.Translator(str(out))
    (found,) = translator.translate_batch(
        [pieces], beam_size=2, use_vmap=True, max_decoding_length=9
    )
    always = {"<unk>", "<s>", "</s>", "<pad>"}
    union = set.union(always, allowed[""], *(allowed[piece] for piece in pieces))
    assert set(found.hypotheses[0]) <= union and len(found.hypotheses[0]) > 0


def test_a_dense_run_becomes_a_model_of_another_engine(dense, tmp_path):
    found = {}
    for numbers in ("float32", "int8"):
        out = tmp_path / numbers
        flags = ("--workdir", dense, "--out", out, "--format=ctranslate2")
        with first_devices(1):
            done = call("export", *flags, f"--quantization={numbers}")
        assert (done.returncode, done.stderr) == (0, b"")
        said = done.stdout.decode()
        assert said.startswith("step 7: ") and f" in {numbers}, " in said
        translator = ctranslate2.Translator(str(out), compute_type=numbers)
        found[numbers] = translator.translate_batch([["▁der", "▁man"]], beam_size=1)
        assert 'Translator(".")' in (out / "README.md").read_text(encoding="utf-8")
    sizes = [(tmp_path / numbers / "model.bin").stat().st_size for numbers in found]
    assert sizes[1] < sizes[0] / 2
    assert all(result.hypotheses for results in found.values() for result in results)


def test_what_ctranslate2_cannot_run_is_one_line(workdir, dense, tmp_path, monkeypatch):
    def refuse(run, *flags) -> str:
        with first_devices(1):
            return refused(call("export", "--workdir", run, "--out", tmp_path / "out", *flags))

    line = refuse(workdir, "--format=ctranslate2")
    assert "experts" in line and "safetensors" in line and "dense" in line
    line = refuse(dense, "--format=ctranslate2", "--quantization=int4")
    assert "quantization" in line and "int8_float32" in line
    line = refuse(dense, "--format=ctranslate2", "--dtype=bfloat16")
    assert "--dtype" in line and "--quantization" in line
    line = refuse(dense, "--quantization=int8")
    assert "--quantization" in line and "--dtype" in line
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert "pip install 'gshard-mt[export]'" in refuse(dense, "--format=ctranslate2")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(workdir, tmp_path):
    words = [sys.executable, "-m", "gshard_mt.cli.export"]
    words += ["--workdir", str(workdir), "--out", str(tmp_path / "out")]
    limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash", *words]  # KiB
    done = subprocess.run(limited, capture_output=True, timeout=300)
    assert "free some space" in refused(done)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_export_is_no_export_and_the_same_command_makes_it(workdir, tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-m", "gshard_mt.cli.export"]
    words += ["--workdir", str(workdir), "--out", str(out)]
    process = subprocess.Popen(words)
    while not (out / UNFINISHED).exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert [path.name for path in out.iterdir()] == [UNFINISHED]
    done = command("export", "--workdir", workdir, "--out", out)
    assert done.returncode == 0, done.stderr.decode()
    assert plain_model.read(out).config["step"] == 7
    assert not (out / UNFINISHED).exists()
