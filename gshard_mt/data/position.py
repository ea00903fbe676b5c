"""The position of the training stream, and how it continues with another mixture."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Mapping
from typing import Any, NamedTuple

from gshard_mt.data.mixture import Mixture, make_mixture
from gshard_mt.documents import check_version
from gshard_mt.errors import CheckpointError

FORMAT_VERSION = 1
# What tells whether a stream has the same pairs.
_IDENTITY = ("pairs", "source_tokens", "target_tokens")


class StreamPosition(NamedTuple):
    """The next row of a stream, and all that determines its mixture except `data.seed`."""

    data: str  # fingerprint of the prepared data
    temperature: float
    chunk_pairs: int
    # stream (`de-en` or `de-en/europarl`) -> `pairs`, their tokens, `start`, and `weight` if the
    # streams are those of corpora
    pairs: dict[str, dict[str, Any]]
    chunk: int = 0
    row: int = 0  # rows of the chunk that were returned; less than all of them
    step: int | None = None  # batches returned, counted in a training with stages

    def has_same_mixture(self, other: "StreamPosition") -> bool:
        """Tells whether both are positions in the same data, mixed in the same way."""
        return self._mixture() == other._mixture()

    def _mixture(self) -> tuple:
        weights = _weights(self.pairs)
        return self.data, self.temperature, weights, self.step is None


def mixture_of(position: StreamPosition, seed: int) -> Mixture:
    """Returns the mixture of a position."""
    counts = {pair: info["pairs"] for pair, info in position.pairs.items()}
    starts = {pair: info["start"] for pair, info in position.pairs.items()}
    weights = _weights(position.pairs)
    return make_mixture(counts, position.temperature, position.chunk_pairs, seed, starts, weights)


def _weights(pairs: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {stream: info["weight"] for stream, info in pairs.items() if "weight" in info}


def change_mixture(old: StreamPosition, new: StreamPosition, seed: int) -> StreamPosition:
    """Returns where the mixture of `new` begins after that of `old` was read up to its position.

    A stream in both continues after the last pair that a chunk has taken, so that no pair is seen
    again before the others; the rest of that chunk waits for the next epoch. If its pairs changed
    (judged by their number and tokens), its next epoch begins. A new stream begins at 0.
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
            if any(had[key] != info[key] for key in _IDENTITY):
                start = -(-start // had["pairs"]) * info["pairs"]
        pairs[pair] = {**info, "start": start}
    return new._replace(pairs=pairs, chunk=0, row=0)


def to_json(position: StreamPosition) -> dict[str, Any]:
    """Returns the position as values fit for JSON."""
    state = {"format_version": FORMAT_VERSION, **position._asdict()}
    if position.step is None:
        del state["step"]
    return state


def from_json(state: dict[str, Any]) -> StreamPosition:
    """Reads what `to_json` returned. Raises CheckpointError if it has another format."""
    remedy = "resume with the version that saved it, or give another --workdir"
    where = "the checkpoint's position in the data"
    check_version(state, FORMAT_VERSION, where, CheckpointError, remedy)
    values = {name: state[name] for name in StreamPosition._fields if name != "step"}
    return StreamPosition(**values, step=state.get("step"))
