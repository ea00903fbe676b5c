"""Duplicates and overlap: which pairs are the same, which sentences training may not have seen."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import unicodedata
from collections.abc import Iterable


class _Letters(dict[int, str | None]):
    """Spaces and punctuation become nothing; made as characters are met, for `str.translate`."""

    def __missing__(self, code: int) -> str | None:
        becomes = None if unicodedata.category(chr(code))[0] in "PZ" else chr(code)
        self[code] = becomes
        return becomes


_LETTERS = _Letters()


def overlap_key(text: str) -> str:
    """Returns what is left of a sentence when case, spaces and punctuation don't count.

    Two sentences with one key are one sentence to the held-out sets.
    """
    return text.casefold().translate(_LETTERS) or text


def seeded_order(text: str, seed: int) -> bytes:
    """Returns a sort key that shuffles texts by the seed alone, whatever their order was."""
    return hashlib.blake2b(text.encode(), digest_size=12, salt=seed.to_bytes(16, "little")).digest()


def overlap_keys(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Returns the keys of both sides of pairs."""
    return {overlap_key(text) for pair in pairs for text in pair}
