"""English: lines that a few very common words show to be English, without asking a model."""
# SPDX-License-Identifier: Apache-2.0

# No common word of another language with Latin letters that lid.176 knows is spelled so (Scots
# aside). Left out for that: a an as at by can do had has he her his in is it me must my no of on
# to was we will. A line of another language has one of these only in a title or a quotation.
_WORDS = (
    "the and you your yours with that this these those there they their them have having been"
    " being were from which who whom whose what when where why how would could should about because"
    " people think know going never always something anything everything nothing someone everyone"
    " again every through without before after between other another though although during"
    " she its it's i'm i'll i've i'd you're you'll you've he's he'll she's she'll we're we'll we've"
    " they're they'll don't doesn't didn't isn't wasn't aren't weren't won't wouldn't can't"
    " couldn't shouldn't haven't hasn't hadn't that's what's there's let's very him really wanted"
    " told thought asked said years good much many little please yesterday father mother"
)
# As they are written: at the start of a sentence, at its end, with either apostrophe.
_LOWER = {*_WORDS.split(), *_WORDS.replace("'", "’").split()}
_WRITTEN = {*_LOWER, *(word.capitalize() for word in _LOWER)}
COMMON = frozenset(word + end for word in _WRITTEN for end in ("", ".", ",", "?", "!"))

_EVERY = 8  # one common word in so many; English has two or three of these


def is_surely_english(text: str) -> bool:
    """Tells whether the text has enough words that only English has.

    False says nothing. A long line needs more of them, or "The Times" would clear all that
    stands around it.
    """
    words = text.split()
    if COMMON.isdisjoint(words):
        return False
    return len(words) <= _EVERY or sum(word in COMMON for word in words) * _EVERY >= len(words)
