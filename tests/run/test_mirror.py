"""A mirror and its bucket agree, whatever was interrupted; half a checkpoint is none."""
# SPDX-License-Identifier: Apache-2.0

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gshard_mt.errors import CheckpointError
from gshard_mt.run import mirror as mirrors
from gshard_mt.run.journal import JsonLines
from gshard_mt.run.mirror import find_mirror, open_folder, output_folder, shown


def open_mirror(bucket, name: str = "run") -> mirrors.Mirror:
    mirror = find_mirror(open_folder(bucket / name))
    assert mirror
    return mirror


def steps_of(folder) -> list[int]:
    """The lines of a journal as another process reads them."""
    lines = (open_folder(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_every_line_of_a_journal_is_in_the_bucket_at_once(bucket, monkeypatch):
    monkeypatch.setattr(mirrors, "_MAX_TAIL", 100)
    mirror = open_mirror(bucket)
    journal = JsonLines(mirror.local / "metrics.jsonl", from_step=0)
    sizes = set()
    for step in range(1, 21):
        journal.write({"step": step, "loss": 1.0})
        wholes = [
            info.num_bytes
            for path, info in mirror.remote.objects().items()
            if "tails" not in path.parts
        ]
        sizes.add(wholes[0])
        copy = mirrors.Mirror(mirror.remote, mirror.local.with_name("copy"))
        copy.pull()
        assert (copy.local / "metrics.jsonl").read_bytes() == (
            mirror.local / "metrics.jsonl"
        ).read_bytes()
    assert 2 < len(sizes) < 12  # the whole was rewritten now and then


def test_a_tail_of_an_older_whole_is_not_read(bucket):
    mirror = open_mirror(bucket)
    journal = JsonLines(mirror.local / "metrics.jsonl", from_step=0)
    journal.write({"step": 1})
    (tail,) = (bucket / "run" / "tails" / "metrics.jsonl").objects()
    stale = tail.read_bytes()
    mirror.finish()
    assert not (bucket / "run" / "tails").objects()
    tail.write_bytes(stale)  # as if the process had been killed before it was deleted
    assert steps_of(bucket / "run") == [1]


def test_a_resumed_journal_forgets_later_lines_in_the_bucket_too(bucket):
    first = JsonLines(open_mirror(bucket).local / "metrics.jsonl", from_step=0)
    for step in (1, 2, 3):
        first.write({"step": step})
    assert steps_of(bucket / "run") == [1, 2, 3]
    second = JsonLines(open_folder(bucket / "run") / "metrics.jsonl", from_step=2)
    assert steps_of(bucket / "run") == [1, 2]
    second.close()


def test_files_are_copied_while_a_checkpoint_is_being_saved(bucket):
    mirror = open_mirror(bucket)
    (mirror.local / "table.json").write_text("{}")
    folder, is_over = mirror.local / "checkpoints", threading.Event()

    def save_again_and_again() -> None:  # as Orbax: under another name, renamed, deleted
        while not is_over.is_set():
            (folder / "2.tmp" / "state").mkdir(parents=True)
            for name in map(str, range(50)):
                (folder / "2.tmp" / "state" / name).touch()
            os.replace(folder / "2.tmp", folder / "2")
            shutil.rmtree(folder / "2")

    with ThreadPoolExecutor() as pool:
        saves = pool.submit(save_again_and_again)
        try:
            for _ in range(300):
                mirror.push()
        finally:
            is_over.set()
        saves.result()
    assert [path.name for path in (bucket / "run").objects()] == ["table.json"]


def save_parts(mirror: mirrors.Mirror, tmp_path, step: int, parts: int, done: int) -> None:
    for part in range(done):
        folder = tmp_path / f"{step}.{part}"
        (folder / "state").mkdir(parents=True)
        (folder / "state" / "metadata").write_text("{}")
        (folder / "params").mkdir()
        (folder / "params" / str(part)).write_text(str(part))
        mirror.push_step(step, folder, part, parts)


def test_a_checkpoint_is_whole_once_all_processes_have_saved_their_part(bucket, tmp_path):
    mirror = open_mirror(bucket)
    save_parts(mirror, tmp_path, 1, parts=1, done=1)
    save_parts(mirror, tmp_path, 2, parts=2, done=2)
    save_parts(mirror, tmp_path, 3, parts=2, done=1)
    local = open_folder(bucket / "run")
    assert sorted(os.listdir(local / "checkpoints")) == ["1", "2"]
    assert not (local / "checkpoints" / "2" / "params").exists()
    mirror.fetch("checkpoints/2/params/")
    assert sorted(os.listdir(local / "checkpoints" / "2" / "params")) == ["0", "1"]
    mirror.keep_steps([2])
    names = {path.relative_to(bucket / "run").parts[1] for path in mirror.remote.objects()}
    assert names == {"2", "2.0-of-2", "2.1-of-2"}


def test_an_evaluation_or_export_is_whole_once_its_last_file_is_there(bucket, monkeypatch):
    uploaded = []
    mirror = open_mirror(bucket)
    for name in ("config.json", "eval/1/dev/table.json", "a", "z", "eval/1/dev/b"):
        (mirror.local / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror.local / name).write_text(name)
    monkeypatch.setattr(type(bucket), "upload", lambda path, file: uploaded.append(path.name))
    mirror.push()
    assert sorted(uploaded[:3]) == ["a", "b", "z"]
    assert sorted(uploaded[3:]) == ["config.json", "table.json"]
    mirror.push()
    assert len(uploaded) == 5  # nothing has changed


def test_a_new_folder_must_be_empty_and_texts_name_the_bucket(bucket):
    with output_folder(str(bucket / "out"), is_new=True) as folder:
        (folder / "a.txt").write_text("a")
        assert shown(folder / "a.txt") == str(bucket / "out" / "a.txt")
    assert (bucket / "out" / "a.txt").read_text() == "a"
    with pytest.raises(CheckpointError, match=r"//.*/out: found a.txt in it"):
        with output_folder(str(bucket / "out"), is_new=True):
            pass


def test_what_dead_processes_have_left_is_deleted(bucket):
    code = "import os, sys; from gshard_mt.run.mirror import open_folder;"
    code += "print(open_folder(sys.argv[1]), flush=True); os._exit(1)"
    command = [sys.executable, "-c", code, f"{bucket}/run"]
    done = subprocess.run(command, capture_output=True, text=True)
    left = done.stdout.strip()
    assert os.path.isdir(left), done.stderr
    mirrors._own_folder()
    assert not os.path.exists(left)
