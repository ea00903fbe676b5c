"""Throughput and latency of gshard-serve with many concurrent clients, and its correctness.

python -m benchmarks.serve --workdir RUN --sources FILE [--clients 64] [--seconds 60]
"""
# SPDX-License-Identifier: Apache-2.0

import http.client
import json
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from absl import flags

from benchmarks.machine import describe_machine
from gshard_mt.cli import flags as cli_flags
from gshard_mt.errors import DataError

_WORKDIR = cli_flags.define_workdir()
_SOURCES = flags.DEFINE_list(
    "sources", None, "Files with one sentence per line; of a .tsv, the first column.", required=True
)
_CLIENTS = flags.DEFINE_integer("clients", 64, "Number of concurrent clients.", 1)
_SECONDS = flags.DEFINE_float("seconds", 60.0, "Seconds of load.", 0.0)
_SENTENCES = flags.DEFINE_integer(
    "sentences", 64, "Number of different sentences, evenly spaced.", 1
)
_MOST = 4  # sentences per request: 1 to _MOST
_PATIENCE = 300  # seconds


@dataclass
class Tally:
    """Results of one client."""

    seconds: list[float] = field(default_factory=list)  # latency of each answered request
    sentences: int = 0
    errors: int = 0  # refused or unanswered requests
    wrong: int = 0  # translations that differ from those of the sentence alone


def main() -> None:
    """Prints one row."""
    sources = _read_sources()
    words = [sys.executable, "-m", "gshard_mt.cli.serve", "--port=0", "--workdir", _WORKDIR.value]
    since = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            sys.exit(process.wait())
        port = int(line.split("://")[1].split()[0].rsplit(":", 1)[1])
        while _ask(_connect(port), "GET", "/health")[0] != 200:
            time.sleep(0.1)
        seconds_to_ready = time.monotonic() - since
        expected = _translate_alone(port, sources)
        seconds, tallies = _ask_at_once(port, expected)
        process.send_signal(signal.SIGTERM)
        status = process.wait(_PATIENCE)
    finally:
        process.kill()
    latencies = np.concatenate([tally.seconds for tally in tallies])
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99]).tolist()
    row = {
        "benchmark": "serve",
        "clients": len(tallies),
        "different_sentences": len(expected),
        "seconds": seconds,
        "requests": len(latencies),
        "requests_per_second": len(latencies) / seconds,
        "sentences_per_second": sum(tally.sentences for tally in tallies) / seconds,
        "latency_p50": p50,
        "latency_p95": p95,
        "latency_p99": p99,
        "errors": sum(tally.errors for tally in tallies),
        "wrong": sum(tally.wrong for tally in tallies),
        "seconds_to_ready": seconds_to_ready,
        "exit_status": status,
        **describe_machine(),
    }
    print(json.dumps(row), flush=True)


def _read_sources() -> list[str]:
    lines = []
    for name in _SOURCES.value:
        try:
            text = pathlib.Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{name}: {error}") from None
        lines += [line.split("\t")[0] for line in text.splitlines()]
    lines = list(dict.fromkeys(filter(None, lines)))
    if len(lines) < _SENTENCES.value:
        raise DataError(f"--sources: found {len(lines)} sentences, accepted: {_SENTENCES.value}")
    return lines[:: len(lines) // _SENTENCES.value][: _SENTENCES.value]


def _connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)


def _ask(client: http.client.HTTPConnection, method: str, path: str, body=None) -> tuple[int, dict]:
    client.request(method, path, body and json.dumps(body))
    response = client.getresponse()
    return response.status, json.loads(response.read())


def _translate_alone(port: int, sources: list[str]) -> dict[str, str]:
    """Returns the translation of each sentence without any other load."""
    client, expected = _connect(port), {}
    for source in sources:
        status, answer = _ask(client, "POST", "/translate", {"text": source})
        assert status == 200, answer
        expected[source] = answer["translations"][0]
    return expected


def _ask_at_once(port: int, expected: dict[str, str]) -> tuple[float, list[Tally]]:
    """Returns the seconds it took and the results of each client."""
    tallies = [Tally() for _ in range(_CLIENTS.value)]
    since = time.monotonic()
    threads = [
        threading.Thread(target=_be_client, args=(port, expected, tally, random.Random(number)))
        for number, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - since, tallies


def _be_client(port: int, expected: dict[str, str], tally: Tally, rng: random.Random) -> None:
    end, sources, client = time.monotonic() + _SECONDS.value, list(expected), _connect(port)
    while (since := time.monotonic()) < end:
        texts = rng.choices(sources, k=rng.randint(1, _MOST))
        try:
            status, answer = _ask(client, "POST", "/translate", {"texts": texts})
        except (OSError, http.client.HTTPException):
            status, answer, client = 0, {}, _connect(port)
        if status != 200:
            tally.errors += 1
            time.sleep(0.1)
            continue
        tally.seconds.append(time.monotonic() - since)
        tally.sentences += len(texts)
        found = zip(texts, answer["translations"], strict=True)
        tally.wrong += sum(expected[text] != translation for text, translation in found)


cli_flags.command(main)
