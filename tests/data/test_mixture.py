"""The mixture is exact: shares, epochs, random access, however far the stream runs."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.data.mixture import make_mixture, temperature_shares
from gshard_mt.errors import ConfigError

_COUNTS = st.lists(st.integers(1, 10**9), min_size=1, max_size=8)


def test_shares_are_the_data_at_one_and_uniform_at_infinity():
    assert temperature_shares([900, 100], 1.0) == pytest.approx([0.9, 0.1])
    assert temperature_shares([900, 100, 0], 1e9) == pytest.approx([0.5, 0.5, 0.0])
    assert temperature_shares([16, 1], 2.0) == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(ConfigError, match="data.temperature"):
        temperature_shares([1, 2], temperature)


@given(_COUNTS, st.integers(0, 10**9), st.integers(0, 2**31))
def test_shares_are_exact_after_any_number_of_chunks(counts, chunk, seed):
    mixture = make_mixture(counts, 5.0, 4096, seed)
    total = sum(mixture.weights)
    for language, weight in enumerate(mixture.weights):
        start, stop = mixture.span(language, chunk)
        assert start == mixture.span(language, chunk - 1)[1] if chunk else start == 0
        # Within one pair of the exact share, in integers.
        assert abs(stop * total - (chunk + 1) * 4096 * weight) <= total


def test_every_pair_is_seen_once_before_any_is_seen_again():
    mixture = make_mixture([50, 7], 1.0, 20, seed=3)
    for language, count in enumerate(mixture.counts):
        stream = [i for chunk in range(60) for i in mixture.indices(language, chunk).tolist()]
        epochs = [stream[i : i + count] for i in range(0, len(stream) - count, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert epochs[0] != epochs[1]


def test_a_language_without_pairs_takes_no_part():
    mixture = make_mixture([10, 0], 5.0, 8, seed=0)
    taken = Counter(n for n in (0, 1) for chunk in range(9) for _ in mixture.indices(n, chunk))
    assert taken[1] == 0 and taken[0] >= 71
