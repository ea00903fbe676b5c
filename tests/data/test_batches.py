"""The training stream: nothing lost or twice, the same after a resume, and free of JAX."""
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from gshard_mt.data import batches
from gshard_mt.data.batches import split_batches, train_batches
from gshard_mt.errors import ConfigError
from tests.data.test_packing import unpack


def _take(stream, number):
    return [next(stream) for _ in range(number)]


def _same(some, others):
    return all(
        np.array_equal(a, b)
        for x, y in zip(some, others, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("number", [0, 1, 5, 23])
def test_a_resumed_stream_goes_on_bit_for_bit(prepared, config, monkeypatch, number):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 64)
    stream = train_batches(prepared, config, batch_rows=5)
    _take(stream, number)
    state = json.loads(json.dumps(stream.get_state()))
    expected = _take(stream, 30)
    resumed = train_batches(prepared, config, batch_rows=5)
    resumed.set_state(state)
    assert _same(_take(resumed, 30), expected)
    resumed.set_state(state)
    assert _same(_take(resumed, 3), expected[:3])
    stream.close()
    resumed.close()


def test_the_stream_is_a_function_of_the_seed(prepared, config):
    import dataclasses

    streams = [
        train_batches(prepared, dataclasses.replace(config, seed=seed), 8) for seed in (1, 1, 2)
    ]
    first, again, other = (_take(stream, 3) for stream in streams)
    assert _same(first, again) and not _same(first, other)
    for stream in streams:
        stream.close()
        stream.close()


def test_each_epoch_of_a_language_holds_every_pair_once(prepared, config, monkeypatch):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 97)
    stream = train_batches(prepared, config, batch_rows=1)
    reader = prepared.reader("de-en", "train")
    all_german = Counter(
        (tuple(r.source.tolist()), tuple(r.target.tolist()))
        for r in reader.read(range(len(reader)))
    )
    seen = Counter()
    for batch in stream:
        seen.update(pair for pair in unpack(batch) if pair in all_german)
        if sum(seen.values()) > 3 * len(reader):
            break
    stream.close()
    # The rows of the chunk at the end are shuffled, so that it may be cut in two.
    assert set(seen) == set(all_german)
    assert max(seen.values()) <= 5 and min(seen.values()) >= 2


def test_a_split_is_read_once_and_filled_up_with_padding(prepared, config):
    found = list(split_batches(prepared, "fr-en", "dev", config, batch_rows=4))
    assert all(batch.source_BL.shape == (4, config.source_length) for batch in found)
    pairs = [pair for batch in found for pair in unpack(batch)]
    reader = prepared.reader("fr-en", "dev")
    assert Counter(pairs) == Counter(
        (tuple(r.source.tolist()), tuple(r.target.tolist()))
        for r in reader.read(range(len(reader)))
    )
    assert _same(found, list(split_batches(prepared, "fr-en", "dev", config, batch_rows=4)))


def test_rows_shorter_than_the_data_are_refused(prepared, config):
    import dataclasses

    with pytest.raises(ConfigError, match="data.source_length is 8"):
        train_batches(prepared, dataclasses.replace(config, source_length=8), 4)


def test_a_process_ends_quietly_while_batches_are_made(prepared, config):
    program = (
        "import json, pathlib, sys; sys.modules['jax'] = None\n"
        "from gshard_mt.config import DataConfig\n"
        "from gshard_mt.data import batches, prepared\n"
        "data = prepared.open_prepared(pathlib.Path(sys.argv[1]))\n"
        "config = DataConfig(**json.loads(sys.argv[2]))\n"
        "stream = batches.train_batches(data, config, 4)\n"
        "print(next(stream).source_BL.shape)\n"
    )
    arguments = [str(prepared.directory), json.dumps(vars(config))]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"(4, {config.source_length})\n"
    assert "Traceback" not in result.stderr
