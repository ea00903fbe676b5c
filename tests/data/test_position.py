"""A stream position is small and complete; another mixture begins where the old one ended."""
# SPDX-License-Identifier: Apache-2.0

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.position import StreamPosition, change_mixture, from_json, mixture_of, to_json
from gshard_mt.errors import CheckpointError

CHUNK_PAIRS = 16


def make_position(
    counts: dict[str, int], temperature: float = 2.0, data: str = "old"
) -> StreamPosition:
    pairs = {
        pair: {"pairs": count, "source_tokens": 9 * count, "target_tokens": 8 * count, "start": 0}
        for pair, count in counts.items()
    }
    return StreamPosition(data, temperature, CHUNK_PAIRS, pairs)


def read(position: StreamPosition, num_chunks: int) -> dict[str, list[int]]:
    """The indices of each language that the given number of chunks takes from a position on."""
    mixture = mixture_of(position, seed=4)
    chunks = [mixture.indices(position.chunk + number) for number in range(num_chunks)]
    return {
        pair: [index for chunk in chunks for index in chunk[number].tolist()]
        for number, pair in enumerate(position.pairs)
    }


def join(*parts: dict[str, list[int]]) -> dict[str, list[int]]:
    return {pair: sum((part.get(pair, []) for part in parts), []) for pair in parts[-1]}


_COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 90), min_size=1, max_size=5)


@settings(deadline=None)
@given(_COUNTS, _COUNTS, st.integers(0, 20), st.sampled_from([1.0, 5.0]))
def test_no_pair_of_a_language_that_stays_is_repeated_before_the_others(
    counts, more, num_chunks, temperature
):
    old = make_position(counts)
    new = make_position({**more, **counts}, temperature, "new")
    changed = change_mixture(old._replace(chunk=num_chunks), new, seed=4)
    streams = join(read(old, num_chunks), read(changed, 12))
    for pair in counts:
        stream, count = streams[pair], counts[pair]
        epochs = [stream[start : start + count] for start in range(0, len(stream), count)]
        assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
        assert all(len(epoch) == count for epoch in epochs[:-1])
    for pair in more.keys() - counts.keys():
        assert changed.pairs[pair]["start"] == 0
    assert (changed.chunk, changed.row, changed.data) == (0, 0, "new")


def test_what_is_left_of_a_chunk_waits_for_the_next_epoch():
    old, new = make_position({"de": 50}), make_position({"de": 50, "fr": 9}, data="new")
    within = change_mixture(old._replace(chunk=1, row=3), new, seed=4)
    assert within == change_mixture(old._replace(chunk=2), new, seed=4)
    assert within.pairs["de"]["start"] == 2 * CHUNK_PAIRS


@pytest.mark.parametrize(("num_chunks", "start"), [(0, 0), (1, 60), (3, 60), (4, 120)])
def test_a_language_whose_pairs_changed_begins_its_next_epoch(num_chunks, start):
    old, new = make_position({"de": 50}), make_position({"de": 60}, data="new")
    changed = change_mixture(old._replace(chunk=num_chunks), new, seed=4)
    assert changed.pairs["de"]["start"] == start
    same_number = make_position({"de": 50}, data="new")
    same_number.pairs["de"]["target_tokens"] += 1
    changed = change_mixture(old._replace(chunk=num_chunks), same_number, seed=4)
    assert changed.pairs["de"]["start"] == start // 60 * 50


def test_mixtures_can_change_again_and_again():
    position = make_position({"de": 70, "fr": 30})
    parts = []
    for number, counts in enumerate(({"de": 70, "fr": 30, "lb": 5}, {"de": 70, "lb": 5})):
        parts.append(read(position, 3))
        position = change_mixture(
            position._replace(chunk=3), make_position(counts, data=str(number)), 4
        )
    streams = join(*parts, read(position, 6))
    for pair, count in (("de", 70), ("lb", 5)):
        assert len(streams[pair]) >= count
        assert sorted(streams[pair][:count]) == list(range(count))


def test_a_language_without_pairs_may_get_some():
    old, new = make_position({"de": 50, "fr": 0}), make_position({"de": 50, "fr": 8}, data="new")
    changed = change_mixture(old._replace(chunk=5), new, seed=4)
    assert changed.pairs["fr"] == {**new.pairs["fr"], "start": 0}
    back = change_mixture(changed._replace(chunk=5), old, seed=4)
    assert back.pairs["fr"]["start"] == 0


def test_a_position_is_small_and_comes_back_from_json():
    position = make_position({f"l{n}": 10**8 + n for n in range(103)})._replace(chunk=10**6, row=77)
    text = json.dumps(to_json(position))
    assert len(text) < 16_000
    assert from_json(json.loads(text)) == position


@pytest.mark.parametrize("state", [{}, {"parent": {"next_index": 3}}, {"format_version": 2}])
def test_a_position_of_another_format_is_refused(state):
    with pytest.raises(CheckpointError, match="format_version .*accepted: 1"):
        from_json(state)
