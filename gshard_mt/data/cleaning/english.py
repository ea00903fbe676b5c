"""English: recognizes English lines by a few very common words, without a model."""
# SPDX-License-Identifier: Apache-2.0

# None of these is a common word of another language in Latin script that lid.176 knows, except
# Scots. For that reason these are left out: a an as at by can do had has he her his in is it me
# must my no of on to was we will. Lines of other languages have them only in titles and quotations.
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
# Forms at the start and the end of a sentence, with either apostrophe.
_LOWER = {*_WORDS.split(), *_WORDS.replace("'", "’").split()}
_WRITTEN = {*_LOWER, *(word.capitalize() for word in _LOWER)}
COMMON = frozenset(word + end for word in _WRITTEN for end in ("", ".", ",", "?", "!"))

_EVERY = 8  # at least one common word among this many; English has two or three


def is_surely_english(text: str) -> bool:
    """Tells whether the text has enough words that only English has; False means unknown.

    A long line needs more of them, so that a title such as "The Times" is not enough.
    """
    words = text.split()
    if COMMON.isdisjoint(words):
        return False
    return len(words) <= _EVERY or sum(word in COMMON for word in words) * _EVERY >= len(words)
