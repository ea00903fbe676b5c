"""Calibration: what the script and language filters may conclude about one language of a corpus."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

from gshard_mt.data.cleaning.confusable_languages import KNOWN, label_of, with_confusable
from gshard_mt.data.cleaning.evidence import Evidence
from gshard_mt.errors import DataError
from gshard_mt.languages import base_language, scripts_of


class Calibration(NamedTuple):
    """Made from a sample by `measure.calibrate`; `uncalibrated` trusts the language's name.

    Where identification is not trusted, a line that it takes for another language is dropped only
    if there is evidence.
    """

    scripts: frozenset[str]  # of the source; empty: any
    own: frozenset[str]  # labels of the language, and those that the model confuses with it
    rivals: frozenset[str]  # labels of the languages that a line may be in instead
    is_trusted: bool = True
    # Evidence.likeness below which a line is in the other language: if identification is unsure of
    # that one, and if it is confident.
    limits: tuple[float, float] = (float("inf"), float("inf"))
    certain: frozenset[str] = frozenset()  # labels of other languages that need no evidence
    evidence: Evidence | None = None


def uncalibrated(tag: str) -> Calibration:
    """Returns the calibration of a language without a sample.

    If the model doesn't know the language, only English is a rival: the model takes unknown
    languages for others, but hardly ever for English.
    """
    scripts, label = scripts_of(tag), label_of(base_language(tag))
    own = with_confusable(label) if label else frozenset()
    return Calibration(scripts, own, rivals_in(scripts, own) if label else frozenset({"en"}))


def rivals_in(scripts: frozenset[str], own: frozenset[str]) -> frozenset[str]:
    """Returns the labels, other than `own`, of languages that share a script; all if none given."""
    return frozenset(
        label
        for label in KNOWN - own
        if not scripts or not scripts.isdisjoint(scripts_of_label(label))
    )


def scripts_of_label(label: str) -> frozenset[str]:
    """Returns the scripts in which a text may have a label."""
    try:
        scripts = scripts_of(label)
    except DataError:  # a code of Wikipedia that is no longer in ISO 639
        scripts = frozenset()
    # Languages unknown to CLDR are written in one of these.
    return scripts or frozenset({"Latn", "Deva", "Arab", "Cyrl"})
