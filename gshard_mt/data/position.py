"""The position of the training stream, and how it continues with another mixture."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

from gshard_mt.config.records import DataConfig
from gshard_mt.data.mixture import Mixture, make_mixture
from gshard_mt.data.prepared import Prepared
from gshard_mt.documents import check_version
from gshard_mt.errors import CheckpointError

FORMAT_VERSION = 1


class StreamPosition(NamedTuple):
    """The next row of a stream, and all that determines its mixture except `data.seed`."""

    data: str  # fingerprint of the prepared data
    temperature: float
    chunk_pairs: int
    pairs: dict[str, dict[str, int]]  # language pair -> `pairs`, their tokens, `start`
    chunk: int = 0
    row: int = 0  # rows of the chunk that were returned; less than all of them

    def has_same_mixture(self, other: "StreamPosition") -> bool:
        """Tells whether both are positions in the same data with the same temperature."""
        return (self.data, self.temperature) == (other.data, other.temperature)


def first_position(prepared: Prepared, config: DataConfig, chunk_pairs: int) -> StreamPosition:
    """Returns the position of the first row."""
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


def mixture_of(position: StreamPosition, seed: int) -> Mixture:
    """Returns the mixture of a position."""
    counts = {pair: info["pairs"] for pair, info in position.pairs.items()}
    starts = {pair: info["start"] for pair, info in position.pairs.items()}
    return make_mixture(counts, position.temperature, position.chunk_pairs, seed, starts)


def change_mixture(old: StreamPosition, new: StreamPosition, seed: int) -> StreamPosition:
    """Returns where the mixture of `new` begins after that of `old` was read up to its position.

    A language in both continues in its own stream after the last pair that a chunk has taken, so
    that no pair is seen again before the others; the rest of that chunk waits for the next epoch.
    If its pairs changed (judged by their number and tokens), its next epoch begins. A new language
    begins at 0.
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


def to_json(position: StreamPosition) -> dict[str, Any]:
    """Returns the position as values fit for JSON."""
    return {"format_version": FORMAT_VERSION, **position._asdict()}


def from_json(state: dict[str, Any]) -> StreamPosition:
    """Reads what `to_json` returned. Raises CheckpointError if it has another format."""
    remedy = "resume with the version that saved it, or give another --workdir"
    where = "the checkpoint's position in the data"
    check_version(state, FORMAT_VERSION, where, CheckpointError, remedy)
    return StreamPosition(**{name: state[name] for name in StreamPosition._fields})
