"""Where the training stream stands: a small record, and how it goes on with another mixture."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

from gshard_mt.config.records import DataConfig
from gshard_mt.data.mixture import Mixture, make_mixture
from gshard_mt.data.prepared import Prepared
from gshard_mt.documents import check_version
from gshard_mt.errors import CheckpointError

FORMAT_VERSION = 1


class StreamPosition(NamedTuple):
    """The next row of a stream, with all that its mixture follows from but `data.seed`."""

    data: str  # fingerprint of the prepared data
    temperature: float
    chunk_pairs: int
    pairs: dict[str, dict[str, int]]  # by language pair: `pairs`, their tokens, and `start`
    chunk: int = 0
    row: int = 0  # rows of the chunk that were given out; less than it has

    def has_same_mixture(self, other: "StreamPosition") -> bool:
        """Says whether both are places of data and settings that are the same."""
        return (self.data, self.temperature) == (other.data, other.temperature)


def first_position(prepared: Prepared, config: DataConfig, chunk_pairs: int) -> StreamPosition:
    """Returns the place before the first row."""
    pairs = {}
    for pair in prepared.language_pairs:
        source_tokens, target_tokens = prepared.num_tokens[pair]["train"]
        pairs[pair] = {
            "pairs": prepared.num_examples[pair]["train"],
            "source_tokens": source_tokens,
            "target_tokens": target_tokens,
            "start": 0,
        }
    return StreamPosition(prepared.fingerprint, config.temperature, chunk_pairs, pairs)


def mixture_of(place: StreamPosition, seed: int) -> Mixture:
    """Returns the mixture that a place belongs to."""
    counts = {pair: info["pairs"] for pair, info in place.pairs.items()}
    starts = {pair: info["start"] for pair, info in place.pairs.items()}
    return make_mixture(counts, place.temperature, place.chunk_pairs, seed, starts)


def change_mixture(old: StreamPosition, new: StreamPosition, seed: int) -> StreamPosition:
    """Returns where the mixture of `new` begins once that of `old` was read up to its place.

    A language that both have goes on in its own stream behind the last pair that a chunk has
    taken, so that no pair is seen again before the others; what was left of that chunk waits for
    the next epoch. Where its pairs are others (by their number and tokens), it begins its next
    epoch. A language that is new begins at 0.
    """
    mixture = mixture_of(old, seed)
    next_chunk = old.chunk + (old.row > 0)
    stops = {
        pair: mixture.span(number, next_chunk)[0]
        for number, (pair, info) in enumerate(old.pairs.items())
        if info["pairs"]
    }
    pairs = {}
    for pair, info in new.pairs.items():
        start = 0
        if pair in stops:
            start, had = stops[pair], old.pairs[pair]
            if any(had[key] != info[key] for key in info if key != "start"):
                start = -(-start // had["pairs"]) * info["pairs"]
        pairs[pair] = {**info, "start": start}
    return new._replace(pairs=pairs, chunk=0, row=0)


def to_json(place: StreamPosition) -> dict[str, Any]:
    """Returns the place as plain values."""
    return {"format_version": FORMAT_VERSION, **place._asdict()}


def from_json(state: dict[str, Any]) -> StreamPosition:
    """Reads what `to_json` wrote. Raises CheckpointError where it is of another format."""
    try:
        check_version(state, FORMAT_VERSION)
    except ValueError as error:
        raise CheckpointError(
            f"the checkpoint's position in the data: {error}; resume with the version of gshard-mt "
            "that saved it, or give another --workdir"
        ) from None
    return StreamPosition(**{name: state[name] for name in StreamPosition._fields})
