"""The queue: every answer goes where it belongs, in whatever batch it was made."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from gshard_mt.serve.batcher import Batcher, Best, Item
from gshard_mt.serve.limits import Limits, RefusedError
from tests.serve.serving import (
    SECONDS,
    WARM_UP,
    Translator,
    alternatives,
    in_threads,
    wait_until,
)

LIMITS = Limits(max_waiting=10)


@pytest.fixture
def translator() -> Translator:
    return Translator()


@contextlib.contextmanager
def started(translator: Translator, **limits) -> Iterator[Batcher]:
    batcher = Batcher(translator, 4, dataclasses.replace(LIMITS, **limits))
    batcher.start(WARM_UP, on_failure=lambda: None)
    wait_until(lambda: batcher.state == "ready")
    translator.batches.clear()
    try:
        yield batcher
    finally:
        translator.go_on()
        batcher.close()
        assert batcher.join(SECONDS)


def submit(batcher: Batcher, texts: list[str]) -> Future[list[Best]]:
    return batcher.submit(list(map(Item, texts)))


def texts_of(future: Future[list[Best]]) -> list[str]:
    return [best[0].text for best in future.result(SECONDS)]


def hold_one(translator: Translator, batcher: Batcher):
    """Has the thread at work for long, so that others wait; returns what it is at work on."""
    translator.hold()
    future = submit(batcher, ["first"])
    wait_until(lambda: len(translator.batches) == 1)
    return future


def test_every_answer_goes_where_it_belongs(translator):
    wrong: list[str] = []

    def client(number: int) -> None:
        rng = random.Random(number)
        for _ in range(30):
            texts = [f"{number} {rng.random()}" for _ in range(rng.randrange(8))]
            if texts_of(submit(batcher, texts)) != [text[::-1] for text in texts]:
                wrong.extend(texts)

    with started(translator, max_waiting=1000) as batcher:
        for thread in in_threads(16, client):
            thread.join(SECONDS)
    assert not wrong
    assert max(map(len, translator.batches)) <= 4


def test_what_waits_is_translated_together_and_requests_take_turns(translator):
    with started(translator) as batcher:
        first = hold_one(translator, batcher)
        long = submit(batcher, ["a", "b", "c", "d", "e"])
        short = [submit(batcher, ["x"]), submit(batcher, ["y"])]
        assert batcher.num_waiting == 7
        translator.go_on()
        assert [texts_of(future) for future in (first, *short)] == [["tsrif"], ["x"], ["y"]]
        assert texts_of(long) == ["a", "b", "c", "d", "e"]
        assert translator.batches == [["first"], ["a", "x", "y", "b"], ["c", "d", "e"]]
        assert batcher.num_waiting == 0


def test_no_short_sentence_waits_for_a_long_one_behind_it(translator):
    long, longer = "long " * 30, "longer " * 100
    with started(translator, max_waiting=20) as batcher:
        first = hold_one(translator, batcher)
        futures = [
            submit(batcher, texts) for texts in (["a", longer], [long], ["b"], [longer, "c"])
        ]
        translator.go_on()
        assert texts_of(first) == ["tsrif"]
        assert [texts_of(future) for future in futures] == [
            ["a", longer[::-1]],
            [long[::-1]],
            ["b"],
            [longer[::-1], "c"],
        ]
    # The second batch is that of the second request, and so on; what is shorter may come along.
    assert translator.batches == [["first"], ["a", "b", "c"], [long], [longer, longer]]


def test_a_young_batch_waits_for_more(translator):
    with started(translator, gather_seconds=SECONDS) as batcher:
        futures = [submit(batcher, [text]) for text in "abcd"]
        assert [texts_of(future) for future in futures] == [["a"], ["b"], ["c"], ["d"]]
    assert translator.batches == [["a", "b", "c", "d"]]


def test_a_full_queue_says_so_and_has_room_again(translator):
    with started(translator) as batcher:
        hold_one(translator, batcher)
        waiting = submit(batcher, ["x"] * 9)
        with pytest.raises(RefusedError, match="^queue: found 9 sentences waiting") as full:
            submit(batcher, ["y", "z"])
        assert full.value.status == 503 and int(full.value.headers["Retry-After"]) >= 1
        waiting.cancel()
        assert batcher.num_waiting == 0
        last = submit(batcher, ["y", "z"])
        translator.go_on()
        assert texts_of(last) == ["y", "z"]
    assert ["x"] not in translator.batches


def test_a_request_that_is_cancelled_halfway_is_dropped(translator):
    with started(translator) as batcher:
        translator.hold()
        half = submit(batcher, ["a"] * 9)
        wait_until(lambda: len(translator.batches) == 1)
        assert half.cancel() and batcher.num_waiting == 0
        other = submit(batcher, ["b"])
        translator.go_on()
        assert texts_of(other) == ["b"]
    assert translator.batches == [["a"] * 4, ["b"]]


def test_a_failure_is_that_of_its_batch_alone(translator):
    with started(translator) as batcher:
        first = hold_one(translator, batcher)
        bad = submit(batcher, ["boom"] * 6)
        beside, after = submit(batcher, ["beside"]), submit(batcher, ["after"] * 3)
        translator.go_on()
        for future in (bad, beside, after):
            with pytest.raises(ArithmeticError):
                future.result(SECONDS)
        assert texts_of(first) == ["tsrif"]
        assert batcher.num_waiting == 0 and batcher.state == "ready"
        assert texts_of(submit(batcher, ["fine"])) == ["enif"]


def test_a_translator_that_loses_a_line_is_a_failure():
    batcher = Batcher(lambda items: list(map(alternatives, items[1:])), 4, LIMITS)
    batcher.start([], on_failure=lambda: None)
    with pytest.raises(RuntimeError, match="2 sentences gave 1 translations"):
        submit(batcher, ["a", "b"]).result(SECONDS)
    batcher.close()


def test_a_closed_queue_finishes_what_it_has(translator):
    with started(translator) as batcher:
        hold_one(translator, batcher)
        waiting = [submit(batcher, [text]) for text in ("ab", "cd")]
        batcher.close()
        assert batcher.state == "stopping"
        with pytest.raises(RefusedError, match="^service: stopping"):
            submit(batcher, ["late"])
        translator.go_on()
        assert [texts_of(future) for future in waiting] == [["ba"], ["dc"]]
        assert batcher.join(SECONDS)


def test_a_warm_up_that_fails_is_told_and_closes_the_queue(translator):
    told: list[str] = []
    translator.hold()
    batcher = Batcher(translator, 4, LIMITS)
    batcher.start([[Item("boom")]], on_failure=lambda: told.append(batcher.state))
    early = submit(batcher, ["early"])
    assert batcher.state == "warming up"
    translator.go_on()
    with pytest.raises(ArithmeticError):
        early.result(SECONDS)
    assert batcher.join(SECONDS) and told == ["stopping"]
    assert isinstance(batcher.failure, ArithmeticError)
