"""The identification model's labels mean the languages that we take them for."""
# SPDX-License-Identifier: Apache-2.0

import iso639
import pytest

from gshard_mt.data.cleaning.confusable_languages import KNOWN, label_of, with_confusable
from gshard_mt.languages import base_language

# What fastText's labels mean, where they aren't the language of that code in ISO 639.
LABELS = {"als": "gsw", "bh": "bho", "eml": "egl", "sh": "hbs", "no": "nb", "diq": "zza"} | {
    "bcl": "bik",
    "bxr": "bua",
    "gom": "kok",
    "mhr": "chm",
    "pnb": "lah",
}


def _macrolanguages() -> list[str]:
    languages = [language for language in iso639.iter_langs() if language.pt3]
    return [language.pt3 for language in languages if language.scope() == "Macrolanguage"]


@pytest.mark.parametrize("macro", _macrolanguages())
def test_a_macrolanguage_may_be_any_member_that_the_model_knows(macro):
    members = [language.pt1 or language.pt3 for language in iso639.Lang(macro).individuals()]
    labels = {label for each in members if (label := label_of(base_language(each)))}
    label = label_of(base_language(macro))
    assert (label is None) == (not labels)
    if label:
        assert labels <= with_confusable(label)


def test_a_label_is_the_language_it_means():
    for label in KNOWN:
        meant = base_language(LABELS.get(label, label))
        assert label_of(meant) == label, label
    assert label_of(base_language("als")) == "sq"
    for tag in ("nan", "fuv", "ary", "ltg", "vro", "kab"):
        assert label_of(base_language(tag)) is None
