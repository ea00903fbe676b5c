"""Trouble planted among good pairs is found, all of it, by its name, and no good pair with it."""
# SPDX-License-Identifier: Apache-2.0

import itertools
from collections import Counter

import pytest

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.clean import REASONS, clean

# Who does what with what, where: sentences that say the same in each language.
WORDS = {
    "en": [
        ["my older sister", "the young teacher", "our good neighbour", "the tired farmer"],
        ["has found", "has forgotten", "has bought", "has repaired"],
        ["the yellow bicycle", "the broken window", "the heavy table", "the small boat"],
        ["behind the school", "near the railway station", "in the old village", "this morning"],
    ],
    "de": [
        ["meine ältere Schwester", "die junge Lehrerin", "unser guter Nachbar", "der müde Bauer"],
        ["findet heute", "vergisst immer", "kauft gerade", "repariert endlich"],
        ["das gelbe Fahrrad", "das kaputte Fenster", "den schweren Tisch", "das kleine Boot"],
        ["hinter der Schule", "neben dem Bahnhof", "in dem alten Dorf", "an diesem Morgen"],
    ],
    "fr": [
        ["ma grande sœur", "la jeune maîtresse", "notre bon voisin", "le paysan fatigué"],
        ["a trouvé", "a oublié", "a acheté", "a réparé"],
        ["le vélo jaune", "la fenêtre cassée", "la table lourde", "le petit bateau"],
        ["derrière l'école", "près de la gare", "dans le vieux village", "ce matin"],
    ],
    "ru": [
        ["моя старшая сестра", "молодая учительница", "наш добрый сосед", "этот усталый человек"],
        ["сегодня нашла", "совсем забыл", "недавно купил", "наконец починил"],
        ["жёлтый велосипед", "разбитое окно", "тяжёлый стол", "маленькую лодку"],
        ["за школой", "около вокзала", "в старой деревне", "этим утром"],
    ],
    "uk": [
        ["моя старша сестра", "молода вчителька", "наш добрий сусід", "цей втомлений чоловік"],
        ["сьогодні знайшла", "зовсім забув", "нещодавно купив", "нарешті полагодив"],
        ["жовтий велосипед", "розбите вікно", "важкий стіл", "маленький човен"],
        ["за школою", "біля вокзалу", "у старому селі", "цього ранку"],
    ],
    "zh": [
        ["我的姐姐", "那位年轻的老师", "我们的好邻居", "那个疲倦的农民"],
        ["找到了", "忘记了", "买了", "修好了"],
        ["黄色的自行车", "坏掉的窗户", "很重的桌子", "那条小船"],
        ["在学校后面", "在火车站旁边", "在老村子里", "就在今天早上"],
    ],
}
NUM_PLANTED = 200
LANGUAGES = ["de", "fr", "uk", "zh"]
OTHERS = {"de": ["fr", "ru"], "fr": ["de", "zh"], "uk": ["ru", "de"], "zh": ["ru", "fr"]}


def sentences(language: str) -> list[str]:
    gap = "" if language == "zh" else " "
    return [f"{gap.join(words)}." for words in itertools.product(*WORDS[language])]


def planted(language: str) -> dict[str, list[tuple[str, str]]]:
    """Returns 200 pairs of each trouble, by reason; of other languages in each script."""
    good = list(zip(sentences(language), sentences("en"), strict=True))[:NUM_PLANTED]
    same, other = OTHERS[language]
    trouble = {
        "swapped": [(english, source) for source, english in good],
        "control_characters": [
            (source[:5] + "\x07" + source[5:], english) if row % 2 else (source, f"{english}\x9d")
            for row, (source, english) in enumerate(good)
        ],
        "too_long": [(source * 5000, english * 5000) for source, english in good],
        "html": [
            (f"<p>{source}", english) if row % 2 else (source, f"{english}&nbsp;")
            for row, (source, english) in enumerate(good)
        ],
        "numbers": [
            (f"{source} {row + 1}", f"{english} {row + 2}")
            for row, (source, english) in enumerate(good)
        ],
        "copied": [(english.upper(), english) for _, english in good],
        "placeholders": [(f"{source} {{a}}", f"{english} {{b}}") for source, english in good],
    }
    for found in (same, other):
        lines = sentences(found)[-NUM_PLANTED:]
        pairs = [(line, english) for line, (_, english) in zip(lines, good, strict=True)]
        reason = "language" if is_one_script(found, language) else "script"
        trouble.setdefault(reason, []).extend(pairs)
    return trouble


def is_one_script(one: str, other: str) -> bool:
    groups = [{"de", "fr", "en"}, {"ru", "uk"}, {"zh"}]
    return any({one, other} <= group for group in groups)


@pytest.mark.parametrize("language", LANGUAGES)
def test_planted_trouble_is_found_under_its_name_and_no_good_pair_is_dropped(language):
    good = list(zip(sentences(language), sentences("en"), strict=True))
    trouble = planted(language)
    labelled = [("", pair) for pair in good]
    labelled += [(reason, pair) for reason, pairs in trouble.items() for pair in pairs]
    labelled = labelled[::3] + labelled[1::3] + labelled[2::3]  # good and bad in any place
    pairs = [pair for _, pair in labelled]
    source, english = [mine for mine, _ in pairs], [its for _, its in pairs]
    cleaned = clean(source, english, language, CleaningConfig())
    found = Counter(
        (wanted, REASONS[number - 1] if number else "")
        for (wanted, _), number in zip(labelled, cleaned.reason.tolist(), strict=True)
    )
    expected = Counter({("", ""): len(good)})
    for reason, planted_pairs in trouble.items():
        assert len(planted_pairs) >= NUM_PLANTED
        expected[reason, reason] = len(planted_pairs)
    assert found == expected


def test_english_lines_in_a_corpus_are_another_language():
    pairs = list(zip(sentences("en"), reversed(sentences("en")), strict=True))
    english = [its for _, its in pairs]
    for language in ("de", "fr"):
        cleaned = clean([mine for mine, _ in pairs], english, language, CleaningConfig())
        names = Counter(REASONS[number - 1] if number else "" for number in cleaned.reason)
        assert names == Counter(language=len(pairs))


def test_a_wrong_english_side_is_found():
    for language, other in (("de", "fr"), ("uk", "ru")):
        source, english = sentences(language), sentences(other)
        cleaned = clean(source, english, language, CleaningConfig())
        names = {REASONS[number - 1] if number else "" for number in cleaned.reason}
        assert names == {"language" if other == "fr" else "script"}


def test_identification_says_nothing_on_the_terminal(capfd):
    clean(sentences("de"), sentences("fr"), "de", CleaningConfig())
    assert capfd.readouterr() == ("", "")
