"""The mixture is exact: shares, epochs, random access, however far the stream runs."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.data.mixture import make_mixture, temperature_shares

_COUNTS = st.dictionaries(st.text("abc", min_size=1), st.integers(1, 10**9), min_size=1)


def test_shares_are_the_data_at_one_and_uniform_at_infinity():
    assert temperature_shares([900, 100], 1.0) == pytest.approx([0.9, 0.1])
    assert temperature_shares([900, 100, 0], 1e9) == pytest.approx([0.5, 0.5, 0.0])
    assert temperature_shares([16, 1], 2.0) == pytest.approx([0.8, 0.2])


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
    mixture = make_mixture({"de": 50, "fr": 7}, 1.0, 20, seed=3)
    for language, count in enumerate(mixture.counts):
        stream = [i for chunk in range(60) for i in mixture.indices(chunk)[language].tolist()]
        epochs = [stream[i : i + count] for i in range(0, len(stream) - count, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert epochs[0] != epochs[1]


def test_a_language_without_pairs_takes_no_part():
    mixture = make_mixture({"de": 10, "fr": 0}, 5.0, 8, seed=0)
    taken = [[len(found) for found in mixture.indices(chunk)] for chunk in range(9)]
    assert sum(none for _, none in taken) == 0 and sum(some for some, _ in taken) >= 71


def test_the_order_of_a_language_is_its_own_whatever_is_mixed_with_it():
    alone = make_mixture({"fr": 30}, 5.0, 64, seed=1)
    mixed = make_mixture({"de": 10**6, "fr": 30}, 2.0, 1024, seed=1)
    assert alone.seeds[0] == mixed.seeds[1] != mixed.seeds[0]
    expected = alone.indices(0)[0].tolist()
    found = [i for chunk in range(20) for i in mixed.indices(chunk)[1].tolist()]
    assert len(found) > len(expected) == 64 and found[:64] == expected


def test_a_stream_goes_on_where_it_is_said_to_start():
    first = make_mixture({"de": 13}, 1.0, 5, seed=2)
    later = make_mixture({"de": 13}, 1.0, 5, seed=2, starts={"de": first.span(0, 7)[0]})
    for chunk in range(9):
        assert later.span(0, chunk) == first.span(0, chunk + 7)
        assert later.indices(chunk)[0].tolist() == first.indices(chunk + 7)[0].tolist()


@pytest.mark.parametrize("temperature", [1.0, 5.0, 100.0])
def test_100_000_draws_have_the_shares_of_the_formula_within_a_percent(temperature):
    counts = {f"l{n}": 1000 * 2**n for n in range(14)}
    mixture = make_mixture(counts, temperature, 4096, seed=0)
    taken = np.sum([[len(i) for i in mixture.indices(k)] for k in range(25)], axis=0)
    weights = np.array([*counts.values()], float) ** (1 / temperature)
    assert taken.sum() >= 100_000
    np.testing.assert_allclose(taken / taken.sum(), weights / weights.sum(), atol=0.0001)
    rare = weights / weights.sum() * taken.sum() < 200  # a pair more or less is over a percent
    np.testing.assert_allclose(
        (taken / taken.sum())[~rare], (weights / weights.sum())[~rare], rtol=0.01
    )
