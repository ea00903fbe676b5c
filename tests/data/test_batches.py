"""The training stream: nothing lost or twice, the same after a resume, and free of JAX."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from gshard_mt.data import batches
from gshard_mt.data.batches import split_batches, train_batches
from gshard_mt.data.packing import Batch
from gshard_mt.errors import CheckpointError, ConfigError, DataError
from tests.data.test_packing import unpack
from tests.making.less_data import leave_out


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


def _host_streams(prepared, config, batch_rows, num_hosts):
    return [
        train_batches(prepared, config, batch_rows, range(host, batch_rows, num_hosts))
        for host in range(num_hosts)
    ]


def _take_together(streams, number):
    """Global batches: the hosts' rows, dealt out to them in turn as `_host_streams` has it."""
    parts = zip(*(_take(stream, number) for stream in streams), strict=True)
    return [Batch(*map(_deal, zip(*hosts, strict=True))) for hosts in parts]


def _deal(arrays):
    return np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])


@pytest.mark.parametrize("chunk_pairs", [7, 64, 4096])
def test_hosts_together_read_the_same_batches_whatever_their_number(
    prepared, config, monkeypatch, chunk_pairs
):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", chunk_pairs)
    expected, states = None, []
    for num_hosts in (1, 2, 4):
        streams = _host_streams(prepared, config, 8, num_hosts)
        found = _take_together(streams, 25)
        assert all(batch.label_BT.shape == (8, config.target_length) for batch in found)
        states += [json.dumps(stream.get_state()) for stream in streams]
        expected = expected or found
        assert _same(found, expected)
        for stream in streams:
            stream.close()
    assert len(states) == 7 and len(set(states)) == 1


@pytest.mark.parametrize("number", [0, 3, 17])
def test_a_state_is_restored_on_another_number_of_hosts(prepared, config, monkeypatch, number):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 64)
    four, two = (_host_streams(prepared, config, 8, hosts) for hosts in (4, 2))
    _take_together(four, number)
    state = json.loads(json.dumps(four[-1].get_state()))
    expected = _take_together(four, 12)
    for stream in two:
        _take(stream, 5)
        stream.set_state(state)
    assert _same(_take_together(two, 12), expected)
    assert [stream.get_state() for stream in two] == [stream.get_state() for stream in four[:2]]
    for stream in (*two, *four):
        stream.close()


def test_hosts_together_read_the_same_held_out_batches(prepared, config):
    for batch_rows in (4, 6):
        expected = list(split_batches(prepared, "dev", config, batch_rows))
        parts = [
            split_batches(prepared, "dev", config, batch_rows, range(host, batch_rows, 2))
            for host in (0, 1)
        ]
        hosts = zip(*parts, strict=True)
        assert _same([Batch(*map(_deal, zip(*host, strict=True))) for host in hosts], expected)


def test_a_state_says_what_was_given_out_not_what_was_made_ahead(prepared, config, monkeypatch):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 64)
    stream = train_batches(prepared, config, 5)
    states = [stream.get_state()]
    for _ in range(40):
        next(stream)
        states.append(stream.get_state())
    places = [(state["chunk"], state["row"]) for state in states]
    assert places[0] == (0, 0) and places == sorted(set(places))
    assert {later - earlier for (_, earlier), (_, later) in pairwise(places)} & {5}
    assert places[-1][0] > 2
    stream.close()


@pytest.fixture
def less(prepared, tmp_path):
    return leave_out(prepared, "lb-en", tmp_path / "less")


def _texts(prepared, pair):
    reader = prepared.reader(pair, "train")
    return {
        (tuple(r.source.tolist()), tuple(r.target.tolist()))
        for r in reader.read(range(len(reader)))
    }


def test_an_added_language_begins_and_the_others_go_on(prepared, less, config, monkeypatch):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 20)
    before = train_batches(less, config, 1)
    seen = Counter()
    while before.get_state()["chunk"] < 4:  # to the end of a chunk
        seen.update(unpack(next(before)))
    assert before.get_state()["row"] == 0
    german = _texts(prepared, "de-en")
    assert 0 < sum(seen[pair] for pair in german) < len(german)
    after = train_batches(prepared, config, 1)
    assert not after.has_mixture_of(before.get_state())
    state = after.change_mixture(before.get_state())
    assert after.has_mixture_of(state) and state["pairs"]["lb-en"]["start"] == 0
    assert state["pairs"]["de-en"]["start"] == sum(seen[pair] for pair in german)
    while sum(seen[pair] for pair in german) < len(german) - 20:
        seen.update(unpack(next(after)))
    assert max(seen[pair] for pair in german) == 1
    assert sum(seen[pair] for pair in _texts(prepared, "lb-en")) > 0
    for stream in (before, after):
        stream.close()


def test_a_resume_after_the_change_is_exact_on_any_number_of_hosts(
    prepared, less, config, monkeypatch
):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 64)
    before, after = train_batches(less, config, 8), train_batches(prepared, config, 8)
    _take(before, 9)
    after.change_mixture(json.loads(json.dumps(before.get_state())))
    _take(after, 5)
    state = json.loads(json.dumps(after.get_state()))
    expected = _take(after, 20)
    resumed = _host_streams(prepared, config, 8, 2)
    for stream in resumed:
        stream.set_state(state)
    assert _same(_take_together(resumed, 20), expected)
    for stream in (before, after, *resumed):
        stream.close()


def test_a_state_of_another_mixture_is_not_taken_unasked(prepared, less, config):
    other = dataclasses.replace(config, temperature=9.0)
    streams = [train_batches(data, c, 8) for data, c in ((prepared, other), (less, config))]
    own = train_batches(prepared, config, 8)
    for stream in streams:
        assert not own.has_mixture_of(stream.get_state())
        with pytest.raises(CheckpointError, match="in other data"):
            own.set_state(stream.get_state())
        assert own.change_mixture(stream.get_state())["temperature"] == config.temperature
        stream.close()
    own.close()


def test_records_that_cant_be_read_are_an_error_of_the_data(prepared, config, tmp_path):
    data = leave_out(prepared, "lb-en", tmp_path / "damaged")
    (path,) = (data.directory / "de-en").glob("*train*")
    content = bytearray(path.read_bytes())
    for place in range(1000, 30_000, 7):
        content[place] ^= 255
    stream = train_batches(data, config, 8)
    path.write_bytes(content)
    with pytest.raises(DataError, match="de-en: split 'train' can't be read"):
        _take(stream, 20)
    stream.close()


def test_closed_batches_cant_be_read(prepared, config):
    stream = train_batches(prepared, config, 8)
    next(stream)
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


@pytest.mark.parametrize("chunk_pairs", [7, 4096])
def test_a_split_is_read_once_and_filled_up_with_padding(
    prepared, config, monkeypatch, chunk_pairs
):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", chunk_pairs)
    found = list(split_batches(prepared, "dev", config, batch_rows=4))
    assert all(batch.source_BL.shape == (4, config.source_length) for batch in found)
    pairs = [pair for batch in found for pair in unpack(batch)]
    readers = [prepared.reader(pair, "dev") for pair in prepared.language_pairs]
    assert Counter(pairs) == Counter(
        (tuple(r.source.tolist()), tuple(r.target.tolist()))
        for reader in readers
        for r in reader.read(range(len(reader)))
    )
    assert _same(found, list(split_batches(prepared, "dev", config, batch_rows=4)))


def test_a_split_mixes_its_languages_from_beginning_to_end(prepared, config, monkeypatch):
    """The mean place of a language's tokens among all is in the middle, whatever the chunks."""
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 16)
    found = list(split_batches(prepared, "dev", config, batch_rows=4))
    pair_B = np.concatenate([batch.target_pair_BT[batch.label_BT != 0] for batch in found])
    places = np.arange(len(pair_B)) / len(pair_B)
    for number in range(len(prepared.language_pairs)):
        assert 0.4 < np.mean(places[pair_B == number]) < 0.6


def test_rows_shorter_than_the_data_are_refused(prepared, config):
    with pytest.raises(ConfigError, match="config.data.source_length: found 8, accepted: "):
        train_batches(prepared, dataclasses.replace(config, source_length=8), 4)


def test_a_process_ends_quietly_while_batches_are_made(prepared, config):
    program = (
        "import json, pathlib, sys; sys.modules['jax'] = None\n"
        "from gshard_mt.config.keys import from_json\n"
        "from gshard_mt.data import batches, prepared\n"
        "data = prepared.open_prepared(pathlib.Path(sys.argv[1]))\n"
        "config = from_json({'data': json.loads(sys.argv[2])}).data\n"
        "stream = batches.train_batches(data, config, 4)\n"
        "print(next(stream).source_BL.shape)\n"
    )
    arguments = [str(prepared.directory), json.dumps(dataclasses.asdict(config))]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"(4, {config.source_length})\n"
    assert "Traceback" not in result.stderr
