"""A translation of a line, what can be asked of it, and the message about lines that are long."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gshard_mt.config.records import DecodeConfig

if TYPE_CHECKING:
    from gshard_mt.decode.sentences import Sentences

MAX_NAMED = 10  # lines in a message


class LineOptions(NamedTuple):
    """What is asked of one line; None is what the config says."""

    prefix: str = ""  # English that the translation begins with
    beam_size: int | None = None  # at most the config's
    length_penalty: float | None = None
    language: str | None = None  # of the source, to split it into sentences; None: identify it


class Translation(NamedTuple):
    """An English line and its log-probability in nats, divided by beam search's length penalty."""

    text: str
    score: float
    is_truncated: bool = False  # cut at `decode.max_source_length`, with `decode.split=never`
    is_in_pieces: bool = False  # a sentence was longer than that and was translated in pieces
    num_sentences: int = 1  # that were translated one by one; pieces count
    mean: float = 0.0  # log-probability per subword; of several sentences, the lowest of these

    @property
    def was_too_long(self) -> bool:
        return self.is_truncated or self.is_in_pieces


def join_best(
    sentences: "Sentences", found: Sequence[Sequence[Translation]], keeps_layout: bool = False
) -> list[Translation]:
    """Returns the translations of a text, given those of its sentences, each list best first.

    The k-th has the k-th of each sentence, or the last of a sentence that has fewer. They are one
    line each, or have the white space of the source.
    """
    if not found:
        return [Translation(sentences.join([], keeps_layout), 0.0)]
    joined = []
    for k in range(max(map(len, found))):
        parts = [each[min(k, len(each) - 1)] for each in found]
        joined.append(
            Translation(
                sentences.join([part.text for part in parts], keeps_layout),
                sum(part.score for part in parts) / len(parts),
                any(part.is_truncated for part in parts),
                sentences.is_in_pieces,
                len(parts),
                min(part.mean for part in parts),
            )
        )
    return joined


def describe_split(num_lines: int, num_split: int) -> str:
    """Returns the message about lines that were translated sentence by sentence."""
    counts = f"{num_split:,} of {num_lines:,} lines"
    return f"split       {counts} are longer than a sentence and were translated in parts"


def describe_too_long(
    config: DecodeConfig, num_lines: int, num_too_long: int, names: Sequence[str]
) -> str:
    """Returns the message about lines that were too long; `names` has the first of them."""
    names = names[:MAX_NAMED]
    shown = ", ".join(names) + (", ..." if num_too_long > len(names) else "")
    counts = f"{num_too_long:,} of {num_lines:,} lines"
    limit = f"decode.max_source_length={config.max_source_length}"
    if config.split == "never":
        remedy = "--decode split=long splits them instead"
        return (
            f"truncated   {counts} are longer than {limit} and were cut there ({shown}); {remedy}"
        )
    where = "at a comma or a space"
    return f"in pieces   {counts} have a sentence longer than {limit}, split {where} ({shown})"
