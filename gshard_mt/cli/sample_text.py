"""The sample text of gshard-init: simple sentences in German, French and English."""
# SPDX-License-Identifier: Apache-2.0

import random

_SUBJECTS = (  # English, German, French
    ("the old teacher", "der alte Lehrer", "le vieux professeur"),
    ("the young singer", "die junge Sängerin", "la jeune chanteuse"),
    ("the little boy", "der kleine Junge", "le petit garçon"),
    ("the little girl", "das kleine Mädchen", "la petite fille"),
    ("the good baker", "der gute Bäcker", "le bon boulanger"),
    ("the tall farmer", "der große Bauer", "le grand fermier"),
    ("the cook", "die Köchin", "la cuisinière"),
    ("the queen", "die Königin", "la reine"),
    ("the painter", "der Maler", "le peintre"),
    ("our guest", "unser Gast", "notre invité"),
    ("my neighbour", "mein Nachbar", "mon voisin"),
    ("my sister", "meine Schwester", "ma sœur"),
    ("his brother", "sein Bruder", "son frère"),
)
_VERBS = (
    ("buys", "kauft", "achète"),
    ("sells", "verkauft", "vend"),
    ("finds", "findet", "trouve"),
    ("looks for", "sucht", "cherche"),
    ("paints", "malt", "peint"),
    ("sees", "sieht", "voit"),
    ("takes", "nimmt", "prend"),
    ("shows", "zeigt", "montre"),
    ("loses", "verliert", "perd"),
    ("hides", "versteckt", "cache"),
    ("brings", "bringt", "apporte"),
    ("cleans", "putzt", "nettoie"),
)
_OBJECTS = (
    ("the red key", "den roten Schlüssel", "la clé rouge"),
    ("the long letter", "den langen Brief", "la longue lettre"),
    ("the green apple", "den grünen Apfel", "la pomme verte"),
    ("the black umbrella", "den schwarzen Regenschirm", "le parapluie noir"),
    ("the new hat", "den neuen Hut", "le nouveau chapeau"),
    ("the big basket", "den großen Korb", "le grand panier"),
    ("the round table", "den runden Tisch", "la table ronde"),
    ("the blue cup", "die blaue Tasse", "la tasse bleue"),
    ("the yellow flower", "die gelbe Blume", "la fleur jaune"),
    ("the old clock", "die alte Uhr", "la vieille horloge"),
    ("the heavy bag", "die schwere Tasche", "le sac lourd"),
    ("the small book", "das kleine Buch", "le petit livre"),
    ("the white shirt", "das weiße Hemd", "la chemise blanche"),
    ("the warm bread", "das warme Brot", "le pain chaud"),
)
_ADVERBIALS = (
    ("today", "heute", "aujourd'hui"),
    ("in the morning", "am Morgen", "le matin"),
    ("in the evening", "am Abend", "le soir"),
    ("on Sunday", "am Sonntag", "dimanche"),
    ("in winter", "im Winter", "en hiver"),
    ("after the rain", "nach dem Regen", "après la pluie"),
    ("in the garden", "im Garten", "dans le jardin"),
    ("in the kitchen", "in der Küche", "dans la cuisine"),
    ("at the market", "auf dem Markt", "au marché"),
    ("near the station", "in der Nähe des Bahnhofs", "près de la gare"),
)
LANGUAGES = ("de", "fr")


def sample_pairs(language: str, num: int) -> list[tuple[str, str]]:
    """Returns different pairs of a sentence in a language, `de` or `fr`, and its English."""
    column = 1 + LANGUAGES.index(language)
    parts = (_SUBJECTS, _VERBS, _OBJECTS, _ADVERBIALS)
    draw = random.Random(language)
    found = dict.fromkeys(tuple(draw.choice(each) for each in parts) for _ in range(2 * num))
    pairs = []
    for subject, verb, object_, adverbial in list(found)[:num]:
        words = [each[column] for each in (subject, verb, object_, adverbial)]
        if language == "de":  # the object is last
            words = [words[0], words[1], words[3], words[2]]
        english = [each[0] for each in (subject, verb, object_, adverbial)]
        pairs.append((_sentence(words), _sentence(english)))
    return pairs


def _sentence(words: list[str]) -> str:
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."
