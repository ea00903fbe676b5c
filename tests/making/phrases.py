"""Phrases of five languages beside their English; any one of each column makes a sentence."""
# SPDX-License-Identifier: Apache-2.0

import math

# Faroese is here because common language identifiers don't know it.
LANGUAGES = ("en", "de", "fr", "ru", "es", "fo")

_WHO = """\
my older brother|mein älterer Bruder|mon grand frère|мой старший брат|mi hermano mayor|eldri beiggi mín
our new teacher|unser neuer Lehrer|notre nouveau professeur|наш новый учитель|nuestro nuevo profesor|nýggi lærarin hjá okkum
the old neighbour|der alte Nachbar|le vieux voisin|старый сосед|el viejo vecino|gamli grannin
a young doctor|ein junger Arzt|un jeune médecin|молодой врач|un médico joven|ein ungur lækni
the last king|der letzte König|le dernier roi|последний король|el último rey|seinasti kongurin
his grandfather|sein Großvater|son grand-père|его дедушка|su abuelo|abbi hansara
your best friend|dein bester Freund|ton meilleur ami|твой лучший друг|tu mejor amigo|besti vinur tín
the famous writer|der berühmte Schriftsteller|le célèbre écrivain|известный писатель|el famoso escritor|kendi rithøvundurin
a poor farmer|ein armer Bauer|un pauvre paysan|бедный крестьянин|un campesino pobre|ein fátækur bóndi
the tall policeman|der große Polizist|le grand policier|высокий полицейский|el policía alto|høgi løgreglumaðurin
her little son|ihr kleiner Sohn|son fils cadet|её маленький сын|su hijo pequeño|lítli sonur hennara
the director himself|der Direktor selbst|le directeur lui-même|сам директор|el propio director|stjórin sjálvur"""  # noqa: E501

_DID = """\
bought a red apple|kaufte einen roten Apfel|a acheté une pomme rouge|купил красное яблоко|compró una manzana roja|keypti eitt reytt súrepli
sold two black horses|verkaufte zwei schwarze Pferde|a vendu deux chevaux noirs|продал двух чёрных лошадей|vendió dos caballos negros|seldi tveir svartar hestar
lost his grey hat|verlor seinen grauen Hut|a perdu son chapeau gris|потерял свою серую шляпу|perdió su sombrero gris|misti gráa hattin hjá sær
wrote a long letter|schrieb einen langen Brief|a écrit une longue lettre|написал длинное письмо|escribió una larga carta|skrivaði eitt langt bræv
read an interesting book|las ein interessantes Buch|a lu un livre intéressant|прочитал интересную книгу|leyó un libro interesante|las eina áhugaverda bók
saw a strange light|sah ein seltsames Licht|a vu une étrange lumière|увидел странный свет|vio una luz extraña|sá eitt løgið ljós
drank cold milk|trank kalte Milch|a bu du lait froid|выпил холодное молоко|bebió leche fría|drakk kalda mjólk
sang a sad song|sang ein trauriges Lied|a chanté une chanson triste|спел грустную песню|cantó una canción triste|sang ein syrgiligan sang
found the missing key|fand den fehlenden Schlüssel|a trouvé la clé perdue|нашёл потерянный ключ|encontró la llave perdida|fann horvna lykilin
built a wooden bridge|baute eine hölzerne Brücke|a construit un pont en bois|построил деревянный мост|construyó un puente de madera|bygdi eina brúgv úr viði
told us a secret|erzählte uns ein Geheimnis|nous a raconté un secret|рассказал нам тайну|nos contó un secreto|segði okkum eitt loyndarmál
waited for the evening train|wartete auf den Abendzug|a attendu le train du soir|ждал вечернего поезда|esperó el tren de la tarde|bíðaði eftir kvøldtokinum
painted a yellow house|malte ein gelbes Haus|a peint une maison jaune|нарисовал жёлтый дом|pintó una casa amarilla|málaði eini gul hús
learned a foreign language|lernte eine fremde Sprache|a appris une langue étrangère|выучил иностранный язык|aprendió un idioma extranjero|lærdi eitt fremmant mál"""  # noqa: E501

_WHERE = """\
at the market|auf dem Markt|au marché|на рынке|en el mercado|á marknaðinum
in the small garden|im kleinen Garten|dans le petit jardin|в маленьком саду|en el pequeño jardín|í lítla urtagarðinum
near the old church|in der Nähe der alten Kirche|près de la vieille église|возле старой церкви|cerca de la vieja iglesia|nær við gomlu kirkjuna
behind the school|hinter der Schule|derrière l'école|за школой|detrás de la escuela|aftan fyri skúlan
on the other side of the river|auf der anderen Seite des Flusses|de l'autre côté du fleuve|на другом берегу реки|al otro lado del río|hinumegin ánna
in the middle of the forest|mitten im Wald|au milieu de la forêt|посреди леса|en medio del bosque|mitt í skóginum
in our town|in unserer Stadt|dans notre ville|в нашем городе|en nuestra ciudad|í býnum hjá okkum
by the sea|am Meer|au bord de la mer|у моря|junto al mar|við havið"""  # noqa: E501

_WHEN = """\
yesterday evening|gestern Abend|hier soir|вчера вечером|ayer por la noche|í gjárkvøldið
last winter|im letzten Winter|l'hiver dernier|прошлой зимой|el invierno pasado|seinasta vetur
in 1975|im Jahr 1975|en 1975|в 1975 году|en 1975|í 1975
early in the morning|früh am Morgen|tôt le matin|рано утром|temprano por la mañana|tíðliga á morgni
on 14 May|am 14. Mai|le 14 mai|14 мая|el 14 de mayo|14. mai
after the long war|nach dem langen Krieg|après la longue guerre|после долгой войны|después de la larga guerra|eftir langa kríggið"""  # noqa: E501

_TABLES = tuple(
    tuple(tuple(row.split("|")) for row in table.splitlines())
    for table in (_WHO, _DID, _WHERE, _WHEN)
)

NUM_SENTENCES = math.prod(map(len, _TABLES))


def sentence(number: int, language: str, *, is_reordered: bool = False) -> str:
    """Returns one of NUM_SENTENCES; a number says the same in every language.

    Reordered, the time comes first: the same said otherwise.
    """
    parts = []
    for table in _TABLES:
        number, row = divmod(number, len(table))
        parts.append(table[row][LANGUAGES.index(language)])
    *said, when = parts
    text = f"{when}, {' '.join(said)}." if is_reordered else f"{' '.join(said)} {when}."
    return text[0].upper() + text[1:]
