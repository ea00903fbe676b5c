"""The command as a user starts it, with a model that was trained: it answers, and ends in order."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.calling import call, refused, without_progress
from tests.making.made_up import english_sentences, translated
from tests.making.runs import Runs, finish
from tests.serve.serving import SECONDS, Answer, ask, connect, in_threads, post, receive, wait_until
from tests.serve.test_cors import preflight

TRAIN = (
    *("--config.train.num_steps=4", "--config.decode.beam_size=1"),
    *("--config.decode.batch_size=8", "--config.decode.max_length_factor=0.5"),
    "--config.decode.max_source_length=16",  # one program for all
)
HERE = r"http://127\.0\.0\.1"


@pytest.fixture(scope="module")
def run(config, prepared, tmp_path_factory) -> pathlib.Path:
    runs = Runs(tmp_path_factory.mktemp("served"), config, prepared, num_steps=4)
    finish([runs.start("run", 1, *TRAIN)])
    return runs.folder / "run"


def start(run: pathlib.Path, *flags: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "gshard_mt.cli.serve", "--workdir", str(run), *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)


@contextlib.contextmanager
def started(run: pathlib.Path, *flags: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """A service that says it is ready, and its port."""
    process = start(run, "--port=0", *flags)
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.fullmatch(rf"serving     {HERE}:(\d+) \(step 4, 3 languages\)\n", line)
        assert found, (line, process.communicate(timeout=SECONDS))
        port = int(found[1])
        wait_until(lambda: ask(port, "/health").status == 200)
        yield process, port
    finally:
        process.kill()
        process.communicate()


def test_sigterm_under_load_answers_what_was_accepted(run):
    # So short that each is one sentence for the model.
    texts = [" ".join(translated(text, "de").split()[:2]) for text in english_sentences()[:256]]
    sent, answers = post(json.dumps({"texts": texts}).encode()), []
    with started(run) as (process, port):
        alone = [
            ask(port, "/translate", {"text": text}).content["translations"][0] for text in texts[:5]
        ]
        clients = [connect(port, sent[:-1]) for _ in range(4)]
        for client in clients:
            client.sendall(sent[-1:])
        # More sentences than three of them have.
        wait_until(lambda: ask(port, "/health").content["num_waiting"] > 3 * 256)
        process.send_signal(signal.SIGTERM)
        for client in clients:
            answers.append(receive(client))
            client.close()
        printed, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 143 and not printed and not without_progress(errors), errors
    for answer in answers:
        assert answer.status == 200 and len(answer.content["translations"]) == 256
        assert answer.content["translations"][:5] == alone


def test_ctrl_c_ends_it_and_all_answers_are_those_of_a_sentence_alone(run):
    texts = [translated(text, "fr") for text in english_sentences()[::29]]
    alone: dict[str, str] = {}
    answers: dict[int, list[Answer]] = {}

    def client(number: int) -> None:
        mine = texts[number:] + texts[:number]
        answers[number] = [ask(port, "/translate", {"texts": mine[:3]}) for _ in range(4)]

    with started(run) as (process, port):
        for text in texts:
            alone[text] = ask(port, "/translate", {"text": text}).content["translations"][0]
        for thread in in_threads(len(texts), client):
            thread.join(SECONDS)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 130 and not printed and not without_progress(errors), errors
    for number in range(len(texts)):
        mine = texts[number:] + texts[:number]
        expected = [alone[text] for text in mine[:3]]
        assert [answer.content["translations"] for answer in answers[number]] == [expected] * 4


def test_a_user_error_is_one_line(run):
    printed, errors = start(run, "--step=7", "--port=0").communicate(timeout=SECONDS)
    assert not printed and errors.startswith("error: ") and errors.count("\n") == 1
    assert "step '7' not found" in errors
    line = refused(call("serve", "--workdir", run, "--port=99999"))
    assert "--port=99999: 99999 is not an integer in the range [0, 65535]" in line


@pytest.mark.parametrize(
    "origin", ["site.org", "https://site.org/", "https://site.org/path", "null", "", "https://ä.de"]
)
def test_an_origin_that_no_browser_sends_is_one_line(run, origin):
    line = refused(call("serve", "--workdir", run, f"--cors_origin={origin}"))
    assert f"--cors_origin: found {origin!r}, accepted: a scheme, a host and perhaps a port" in line


def test_an_origin_is_compared_as_browsers_write_it(run):
    flags = ("--cors_origin=HTTPS://Site.org:443", "--cors_origin=http://localhost:3000")
    with started(run, *flags) as (_, port):
        for origin in ("https://site.org", "http://localhost:3000"):
            assert preflight(port, origin)[0] == 200
        assert preflight(port, "https://other.org")[0] == 400
