"""Augmentation changes the share of pairs that it should, and nothing else about the stream."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json

import numpy as np
import pytest

from gshard_mt.config.records import AugmentationConfig
from gshard_mt.data import batches
from gshard_mt.data.augmentation import make_augmentation
from gshard_mt.data.batches import split_batches, train_batches
from gshard_mt.data.examples import Columns
from gshard_mt.data.packing import Batch
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import ConfigError

PAIRS = ("de-en", "fr-en")


@pytest.fixture(scope="module")
def tokenizer(prepared):
    return load_tokenizer(prepared.directory)


def augmented(config, **values):
    return dataclasses.replace(config, augmentation=AugmentationConfig(**values))


def columns_of(tokenizer, pairs):
    source = tokenizer.encode_source([source for source, _ in pairs])
    target = tokenizer.encode_target([english for _, english in pairs])
    return Columns(
        np.concatenate(source, dtype=np.int32), np.array([len(each) for each in source]),
        np.concatenate(target, dtype=np.int32), np.array([len(each) for each in target]),
    )  # fmt: skip


def texts_of(tokenizer, columns):
    sources = np.split(columns.source, np.cumsum(columns.source_lengths)[:-1])
    targets = np.split(columns.target, np.cumsum(columns.target_lengths)[:-1])
    english = [tokenizer.decode_target(ids.tolist()) for ids in targets]
    return list(
        zip(tokenizer.decode_sources([ids.tolist() for ids in sources]), english, strict=True)
    )


def apply(tokenizer, config, pairs, pair_of=None, chunk=0):
    augmentation = make_augmentation(config, PAIRS, lambda: tokenizer)
    assert augmentation
    numbers = np.zeros(len(pairs), np.int32) if pair_of is None else pair_of
    return texts_of(tokenizer, augmentation.apply(columns_of(tokenizer, pairs), numbers, chunk))


def test_each_kind_gets_its_share(tokenizer, config):
    plain = [("der hund.", "the dog.")] * 2000
    config = augmented(config, upper_case=0.2, no_final_punctuation=0.3)
    found = apply(tokenizer, config, plain)
    num_upper = found.count(("DER HUND.", "THE DOG."))
    num_open = found.count(("der hund", "the dog"))
    assert num_upper + num_open + found.count(plain[0]) == 2000
    assert abs(num_upper - 400) < 60 and abs(num_open - 600) < 70  # over 3 standard deviations


def test_the_draws_are_those_of_seed_and_chunk(tokenizer, config):
    plain, config = [("der hund.", "the dog.")] * 100, augmented(config, upper_case=0.5)
    first = apply(tokenizer, config, plain)
    assert apply(tokenizer, config, plain) == first
    assert apply(tokenizer, config, plain, chunk=1) != first
    assert apply(tokenizer, dataclasses.replace(config, seed=5), plain) != first


def test_languages_that_are_not_named_stay_as_they_are(tokenizer, config):
    plain, numbers = [("der hund.", "the dog.")] * 100, np.arange(100) % 2
    config = augmented(config, upper_case=0.9, languages="fra")
    found = apply(tokenizer, config, plain, numbers)
    assert found[::2] == plain[::2] and found[1::2].count(("DER HUND.", "THE DOG.")) > 30
    with pytest.raises(ConfigError, match=r"augmentation.languages: found 'xx', accepted: lang"):
        make_augmentation(augmented(config, typos=0.1, languages="de,xx"), PAIRS, lambda: tokenizer)


def test_a_pair_that_would_be_longer_than_a_row_stays_as_it_is(tokenizer, config):
    (words,) = tokenizer.encode_source(["der hund sieht die katze"])
    upper = tokenizer.encode_source(["DER HUND SIEHT DIE KATZE"])[0]
    assert len(words) < len(upper)
    plain = [("der hund sieht die katze", "the dog")]
    config = augmented(config, upper_case=0.999)
    short = dataclasses.replace(config, source_length=len(upper))
    assert apply(tokenizer, short, plain) == plain
    long = dataclasses.replace(config, source_length=len(upper) + 1)
    assert apply(tokenizer, long, plain) == [("DER HUND SIEHT DIE KATZE", "THE DOG")]


def test_without_shares_there_is_none(config):
    assert make_augmentation(config, PAIRS, lambda: pytest.fail("the tokenizer was loaded")) is None


def same(some, others):
    return all(
        np.array_equal(a, b)
        for x, y in zip(some, others, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def deal(arrays):
    return np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])


def test_a_resumed_stream_and_several_hosts_read_the_same_batches(prepared, config, monkeypatch):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 64)
    config = augmented(config, upper_case=0.3, typos=0.3, placeholders=0.3)
    stream = train_batches(prepared, config, batch_rows=4)
    first = [next(stream) for _ in range(7)]
    state = json.loads(json.dumps(stream.get_state()))
    rest = [next(stream) for _ in range(20)]
    resumed = train_batches(prepared, config, batch_rows=4)
    resumed.set_state(state)
    assert same([next(resumed) for _ in range(20)], rest)
    hosts = [train_batches(prepared, config, 4, range(host, 4, 2)) for host in range(2)]
    parts = [[next(host) for _ in range(7)] for host in hosts]
    together = [
        Batch(
            *(
                np.stack(both, axis=1).reshape(-1, *both[0].shape[1:])
                for both in zip(*each, strict=True)
            )
        )
        for each in zip(*parts, strict=True)
    ]
    assert same(together, first)
    plain = train_batches(
        prepared, dataclasses.replace(config, augmentation=AugmentationConfig()), 4
    )
    assert not same([next(plain) for _ in range(7)], first)
    for each in (stream, resumed, plain, *hosts):
        each.close()


def test_dev_stays_plain(prepared, config):
    loud = augmented(config, upper_case=0.9)
    assert same(split_batches(prepared, "dev", loud, 4), split_batches(prepared, "dev", config, 4))
