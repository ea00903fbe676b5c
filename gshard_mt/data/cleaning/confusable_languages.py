"""Languages that identification confuses with each other, as measured on Tatoeba."""
# SPDX-License-Identifier: Apache-2.0

# The languages that lid.176 knows.
KNOWN = frozenset(
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb"
    " co cs cv cy da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv"
    " he hi hif hr hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la"
    " lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne"
    " new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si"
    " sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu"
    " xal xmf yi yo yue zh".split()
)

# Languages for which the model uses another code than we do. Its codes are Wikipedia's: `als` is
# Alemannic there, not Tosk Albanian, `no` is Bokmål, `ku` Kurmanji, `zh` written Mandarin, `ar`
# Standard Arabic. A macrolanguage without a label has that of the member which the model knows;
# members that languages.language_code names by their macrolanguage need no row.
_LABELS = {
    "als": "sq",
    "bho": "bh",
    "bik": "bcl",
    "bua": "bxr",
    "chm": "mhr",
    "cnr": "sr",
    "egl": "eml",
    "fil": "tl",
    "gsw": "als",
    "hbs": "sh",
    "kok": "gom",
    "lah": "pnb",
    "nb": "no",
    "pbu": "ps",
    "prs": "fa",
    "quz": "qu",
    "rgn": "eml",
    "zza": "diq",
}

_SERBO_CROATIAN = "sr hr bs sh sl"
# The model often labels lines of the first language as one of the others. Without its row, over 1%
# of a language's lines of 20 letters would be dropped, or a related language takes so much of the
# probability that lines of both are never found in corpora of other languages (measured).
_CONFUSABLE = {
    "af": "nl",
    "als": "de",
    "ar": "arz",
    "arz": "ar",
    "ast": "es",
    "az": "tr azb",
    "bar": "de als",
    "be": "rue",
    "bs": _SERBO_CROATIAN,
    "ca": "es oc",
    "cbk": "es",
    "ceb": "tl war",
    "cs": "sk",
    "da": "no nn",
    "de": "als bar",
    "dsb": "hsb pl cs",
    "en": "sco",
    "es": "gl ast an",
    "fa": "mzn",
    "fy": "nl",
    "gl": "pt es",
    "hi": "bh mai dty ne",
    "hr": _SERBO_CROATIAN,
    "hsb": "dsb cs sk pl sl",
    "ia": "ie es it la",
    "id": "ms min",
    "ie": "ia io eo es it fr pt",
    "ilo": "ceb tl",
    "io": "eo ia ie es it",
    "ku": "ckb",  # the macrolanguage: some corpora of Sorani are tagged `ku`
    "kw": "cy br",
    "lb": "de",
    "lmo": "it pms",
    "mhr": "mrj",
    "mr": "gom hi",
    "ms": "id min",
    "nds": "de nl",
    "ne": "hi dty",
    "nl": "li vls af",
    "nn": "no da",
    "no": "nn da",
    "oc": "ca es fr it",
    "pa": "pnb ur",  # in Arabic script, in which the model has not seen `pa`
    "pms": "it lmo oc ca fr",
    "sco": "en",
    "sh": _SERBO_CROATIAN,
    "sk": "cs",
    "sl": _SERBO_CROATIAN + " sk cs",
    "sr": _SERBO_CROATIAN,
    "tk": "tr az",
    "tl": "ceb",
    "tt": "ba tr",
    "uk": "rue",
    "ur": "pnb",
    "uz": "tr az tk",
    "war": "tl ceb bcl ilo",
    "wuu": "zh yue ja ko",
    "yue": "zh wuu ja ko",
    "zh": "yue wuu ja ko",  # Japanese and Korean in Han alone; Kana and Hangul are other scripts
}


def label_of(language: str) -> str | None:
    """Returns the model's label of a language (a code without script), or None."""
    label = _LABELS.get(language, language)
    return label if label in KNOWN else None


def with_confusable(label: str) -> frozenset[str]:
    """Returns a label and those that the model confuses with it."""
    return frozenset({label, *_CONFUSABLE.get(label, "").split()})
