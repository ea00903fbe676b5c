"""Batches of sentences that are about equally long, so that all rows finish at the same time."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterator, Sequence
from typing import NamedTuple

SHORTEST_BUCKET = 16  # source positions; each bucket is twice as long as the one before
MAX_ROUNDS = 16  # sentences that a row translates one after another


class SentenceBatch(NamedTuple):
    """Sentences of one length bucket that are decoded together, one per row and round."""

    bucket: int
    num_rows: int
    num_rounds: int  # that the program is compiled for: 1 or MAX_ROUNDS
    rounds: list[list[int]]  # indices of sentences, one per row, fewer in the last round


def batch_by_length(lengths: Sequence[int], num_rows: tuple[int, int]) -> Iterator[SentenceBatch]:
    """Groups sentences into batches of few or many rows; those of length 0 are left out.

    The sentences of a round are about equally long, and the long ones come first, so that all
    rows finish at about the same time. All batches of a bucket are for the same program.
    """
    buckets: dict[int, list[int]] = {}
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[i]:
            buckets.setdefault(bucket_of(lengths[i]), []).append(i)
    few, many = num_rows
    for bucket, numbers in buckets.items():
        rows = few if len(numbers) <= few else many
        rounds = [numbers[k : k + rows] for k in range(0, len(numbers), rows)]
        num_rounds = 1 if len(rounds) == 1 else MAX_ROUNDS
        for k in range(0, len(rounds), MAX_ROUNDS):
            yield SentenceBatch(bucket, rows, num_rounds, rounds[k : k + MAX_ROUNDS])


def bucket_of(length: int) -> int:
    """Returns the length of the shortest bucket that holds a sentence of this length."""
    bucket = SHORTEST_BUCKET
    while bucket < length:
        bucket *= 2
    return bucket
