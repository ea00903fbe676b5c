"""gshard-translate writes a training corpus: as JSON, in shards, resumed after it was killed."""
# SPDX-License-Identifier: Apache-2.0

import fcntl
import importlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
from unittest import mock

import pytest

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.readers import SCHEMES
from gshard_mt.decode.translate import Translator
from gshard_mt.run.checkpoints import Checkpoints
from tests.cli.calling import call_main, one_device, refused
from tests.cli.test_commands import home  # noqa: F401 (a fixture)
from tests.making.made_up import english_sentences, translated

WINDOW = 4  # lines
LONG = "a b c " * 50
LINES = [" ".join(translated(text, "de").split()[1:4]) for text in english_sentences()[::14][:23]]
LINES[2], LINES[3], LINES[9], LINES[10] = "", 'sées\t"ä\\ dög"\u2028x', LONG, "日本 🙂\u0085"
JSON = ("--jsonl", "--nbest", "2")
# A process that is killed in the middle of its third window, while it replaces the progress file.
KILLED = f"""
import os, pathlib, signal
from gshard_mt.cli import progress, translate
translate.WINDOW = {WINDOW}
write_json, num_calls = progress.write_json, 0
def write(path, content, **layout):
    global num_calls
    num_calls += 1
    if num_calls == 4:
        pathlib.Path(f"{{path}}.0.tmp").write_text("half of")
        os.kill(os.getpid(), signal.SIGKILL)
    write_json(path, content, **layout)
progress.write_json = write
translate.entry()
"""


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def source(tmp_path) -> pathlib.Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


@pytest.fixture
def run(home) -> pathlib.Path:  # noqa: F811
    return home / "run"


@pytest.fixture
def translate(run, source):
    """Calls the command with short windows."""

    def start() -> None:
        name = "gshard_mt.cli.translate"
        sys.modules.pop(name, None)  # so that it defines its flags
        module = importlib.import_module(name)
        del sys.modules[name]
        module.WINDOW = WINDOW  # type: ignore
        module.entry()

    def call(*arguments, workdir: pathlib.Path = run, input: pathlib.Path = source):
        words = ["translate", "--workdir", workdir, "--input", input, *arguments]
        with one_device():
            return call_main(start, [str(word) for word in words])

    return call


def succeed(done: subprocess.CompletedProcess[bytes]) -> bytes:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def read(path: pathlib.Path, scheme: str) -> list[Pair]:
    """Reads a file as a recipe does."""
    entry = Entry(("de",), "train", scheme, path.name, "CC0-1.0", "", path.parent)
    return list(SCHEMES[scheme].read(entry))


def objects(content: bytes) -> list[dict]:
    return [json.loads(line) for line in content.decode().split("\n")[:-1]]


def test_a_recipe_reads_the_json_and_the_two_columns(translate, tmp_path):
    done = translate("--jsonl", "--output", tmp_path / "best.jsonl", "--source_language", "de")
    succeed(done)
    english = succeed(translate()).decode().split("\n")[:-1]
    pairs = [Pair("de", *pair) for pair in zip(LINES, english, strict=True)]
    assert read(tmp_path / "best.jsonl", "jsonl") == pairs
    content = (tmp_path / "best.jsonl").read_bytes()
    assert "日本 🙂".encode() in content and b"\\u65e5" not in content
    assert len({each.english for each in pairs}) > 1
    succeed(translate("--tsv", "--output", tmp_path / "best.tsv"))
    spaced = [pair._replace(source=pair.source.replace("\t", " ")) for pair in pairs]
    assert read(tmp_path / "best.tsv", "tsv") == spaced


def test_every_translation_is_an_object_with_line_and_score(translate, tmp_path):
    found = objects(succeed(translate(*JSON)))
    table = succeed(translate("--nbest", "2", "--scores")).decode().split("\n")[:-1]
    assert [
        [str(each["line"]), f"{each['score']:.4f}", each["target"]] for each in found
    ] == [row.split("\t") for row in table]  # fmt: skip
    assert all(each["source"] == LINES[each["line"] - 1] for each in found)
    assert all(isinstance(each["score"], float) for each in found)
    assert [each["in_pieces"] for each in found if each["line"] == 10] == [True] * 2
    assert sum("in_pieces" in each for each in found) == 2
    assert found[4]["line"] == 3 and found[5]["line"] == 4  # an empty line has one translation
    (tmp_path / "all.jsonl").write_bytes(succeed(translate(*JSON)))
    assert len(read(tmp_path / "all.jsonl", "jsonl")) == len(found) == 2 * len(LINES) - 1


@pytest.mark.parametrize("search", [(), ("--sample", "1.5", "--seed", "7")])
def test_shards_hold_the_lines_of_the_whole(translate, search):
    whole = objects(succeed(translate(*JSON, *search)))
    parts = [objects(succeed(translate(*JSON, *search, "--shard", f"{i}/3"))) for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        assert part == [each for each in whole if each["line"] % 3 == i % 3]
    assert sum(map(len, parts)) == len(whole) and all(parts)
    assert succeed(translate("--shard", "24/24")) == b""  # there is no such line


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "a/b", "1/3/5", "1 / 3", ""])
def test_a_shard_that_is_none_is_refused(translate, text):
    line = refused(translate(f"--shard={text}"))
    assert f"--shard: found {text!r}, accepted: I/N with I from 1 to N, e.g. 2/8" in line


def test_json_is_refused_with_columns(translate):
    for other in ("--tsv", "--scores"):
        assert f"--jsonl: found with {other}, accepted: " in refused(translate("--jsonl", other))


def test_an_output_is_resumed_wherever_it_was_killed(translate, tmp_path, monkeypatch):
    options = (*JSON, "--sample", "1.2", "--shard", "1/1")
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    command = (*options, "--output", output, "--resume")
    uninterrupted = translate(*options)
    whole.write_bytes(succeed(uninterrupted))
    found = {}

    def start_and_kill(owner, name: str, num_calls: int) -> None:
        """Raises instead of the call after the first `num_calls`."""
        calls, original = iter(range(num_calls)), getattr(owner, name)

        def run(*arguments, **options):
            if next(calls, None) is None:
                raise KilledError
            return original(*arguments, **options)

        with mock.patch.object(owner, name, run), pytest.raises(KilledError):
            translate(*command)
        record = json.loads((tmp_path / "out.jsonl.progress").read_text())
        found[record["done"]["num_lines"]] = output.stat().st_size - record["num_bytes"]

    start_and_kill(Translator, "list_best", 0)  # before the first window
    start_and_kill(Translator, "list_best", 2)  # while the third is translated
    with open(output, "ab") as file:
        file.write(whole.read_bytes()[output.stat().st_size :][:50])  # a part of it was written
    # All of the next window is written, but not that it is.
    start_and_kill(importlib.import_module("gshard_mt.cli.progress"), "write_json", 1)
    assert list(found) == [0, 2 * WINDOW, 3 * WINDOW] and found[3 * WINDOW] > 50
    done = translate(*command)
    succeed(done)
    assert output.read_bytes() == whole.read_bytes()
    said = done.stderr.decode()
    assert f"resumed     {output}: 12 lines are translated by checkpoint 4\n" in said
    message = uninterrupted.stderr.decode().splitlines()[-1]
    assert message.startswith("in pieces   1 of 23 lines ") and "(line 10)" in message
    assert said.splitlines()[-1] == message  # line 10 was translated before

    before = output.stat(), (tmp_path / "out.jsonl.progress").stat()
    monkeypatch.setattr(Translator, "list_best", None)
    done = translate(*command)
    said = done.stderr.decode()
    assert said.startswith(f"finished    {output}: all 23 lines are translated by checkpoint 4; ")
    after = output.stat(), (tmp_path / "out.jsonl.progress").stat()
    assert [each.st_mtime_ns for each in after] == [each.st_mtime_ns for each in before]


def test_a_process_that_is_killed_in_the_middle_of_a_window_is_resumed(
    translate, run, source, tmp_path
):
    output, whole = tmp_path / "out.tsv", succeed(translate("--tsv"))
    options = ("--tsv", "--output", output, "--resume")
    words = ["--workdir", run, "--input", source, *options]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    record = json.loads((tmp_path / "out.tsv.progress").read_text())
    assert record["done"]["num_lines"] == 2 * WINDOW
    assert record["num_bytes"] < output.stat().st_size < len(whole)
    succeed(translate(*options))
    assert output.read_bytes() == whole
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"in.txt", "out.tsv", "out.tsv.progress"}  # no draft is left


@pytest.fixture
def half(translate, tmp_path):
    """An output of which one window is done, and the flags that continue it."""
    output = tmp_path / "out.jsonl"
    flags = ("--jsonl", "--output", output, "--resume")
    one, original = iter([1]), Translator.list_best

    def list_best(self, *arguments):
        if next(one, None) is None:
            raise KilledError
        return original(self, *arguments)

    with mock.patch.object(Translator, "list_best", list_best), pytest.raises(KilledError):
        translate(*flags)
    return output, flags


def test_another_task_is_refused_with_what_differs(translate, half, source, tmp_path):
    output, flags = half
    before = output.read_bytes()
    remedy = f"to start over, remove {output} and {output}.progress"
    for others, expected in (
        (("--nbest", "2"), "--nbest: found 2, accepted: 1, "),
        (("--nojsonl",), "--jsonl: found False, accepted: True, "),
        (("--shard", "2/3"), "--shard: found 2/3, accepted: 1/1, "),
        (("--sample", "1.0"), "--sample: found 1.0, accepted: 0.0, "),
        (("--beam_size", "2"), "decode.beam_size: found 2, accepted: 4, "),
        (("--input", source), "number of --input: found 2, accepted: 1, "),
        (("--step", "2"), "--step: found 2 with other parameters than those of checkpoint 4, "),
        (("--step", "average"), "--step: found average with other parameters than those of "),
    ):
        line = refused(translate(*flags, *others))
        assert expected in line and remedy in line
    source.write_text("something else\n")
    line = refused(translate(*flags))
    assert "content of --input 1: found " in line and remedy in line
    assert output.read_bytes() == before


def test_an_output_that_is_not_what_was_written_is_refused(translate, half, tmp_path):
    output, flags = half
    progress = tmp_path / "out.jsonl.progress"
    content, record = output.read_bytes(), progress.read_bytes()
    for other in (content[:-1], content.replace(b"line", b"LINE"), b""):
        output.write_bytes(other)
        assert "which was changed after" in refused(translate(*flags))
        assert output.read_bytes() == other
    output.write_bytes(content)
    for other in (b"", b"{}", b'{"format_version": 1}', record.replace(b"sha256", b"sha1")):
        progress.write_bytes(other)
        line = refused(translate(*flags))
        assert line.startswith(f"error: {progress}: ") and "to start over, remove " in line
    progress.unlink()
    assert f"--resume: found {output} without {progress}" in refused(translate(*flags))
    assert output.read_bytes() == content
    succeed(translate(*flags[:-1]))  # without --resume it is overwritten, as ever
    assert len(output.read_bytes().splitlines()) == len(LINES)


def test_the_latest_checkpoint_is_that_of_the_beginning(translate, run, half, tmp_path):
    output, flags = half
    copy = shutil.copytree(run, tmp_path / "run")
    with mock.patch.object(Checkpoints, "steps", lambda self: [2]):
        line = refused(translate(*flags, workdir=copy))
        assert "begun with checkpoint 4, which the run no longer has" in line
    shutil.copytree(copy / "checkpoints" / "2", copy / "checkpoints" / "6")  # training went on
    latest = objects(succeed(translate("--jsonl", workdir=copy)))
    assert "resumed " in (done := translate(*flags, workdir=copy)).stderr.decode()
    succeed(done)
    whole = objects(succeed(translate("--jsonl", "--step", "4", workdir=copy)))
    assert objects(output.read_bytes()) == whole != latest
    shutil.rmtree(copy / "checkpoints" / "4")
    assert "there is nothing to do" in translate(*flags, workdir=copy).stderr.decode()


def test_two_processes_do_not_write_one_output(translate, half):
    output, flags = half
    with open(output, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "which another gshard-translate --resume writes" in refused(translate(*flags))
    succeed(translate(*flags))


def test_only_files_are_resumed(translate, tmp_path):
    assert "--resume: found without --output" in refused(translate("--resume"))
    line = refused(translate("--resume", "--output", "/dev/null"))
    assert "--resume: found /dev/null, which is no regular file" in line
    line = refused(translate("--resume", "--output", tmp_path / "out", input="/dev/null"))
    assert "--resume: found /dev/null, which is no regular file" in line
