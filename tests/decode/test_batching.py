"""Batches: every sentence once, and one program for all batches of a bucket."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.decode.batching import MAX_ROUNDS, batch_by_length


def test_all_batches_of_a_bucket_are_for_one_program():
    few, many = 2, 4
    lengths = [0] + [5] * (many * (MAX_ROUNDS + 1)) + [20] * many + [40]
    batches = list(batch_by_length(lengths, (few, many)))
    found = [(each.bucket, each.num_rows, each.num_rounds, len(each.rounds)) for each in batches]
    assert found == [(64, few, 1, 1), (32, many, 1, 1), (16, many, MAX_ROUNDS, MAX_ROUNDS)] + [
        (16, many, MAX_ROUNDS, 1)
    ]
    numbers = [i for each in batches for rows in each.rounds for i in rows]
    assert sorted(numbers) == list(range(1, len(lengths)))
