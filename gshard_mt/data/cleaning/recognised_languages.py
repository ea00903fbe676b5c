"""Languages that identification recognises, as measured on Tatoeba."""
# SPDX-License-Identifier: Apache-2.0

# Labels and scripts for which at least 90% of the lines of 20 or more letters get the label, or one
# that the model confuses with it (confusable_languages.py). Others get fewer or weren't measured.
_WELL = (
    "af:Latn ar:Arab arz:Arab az:Latn bn:Beng bs:Latn cs:Latn da:Latn de:Latn el:Grek en:Latn "
    "eo:Latn es:Latn fa:Arab fi:Latn fr:Latn gl:Latn he:Hebr hi:Deva hr:Latn hu:Latn hy:Armn "
    "ia:Latn id:Latn io:Latn is:Latn it:Latn ja:Hani ja:Hira jbo:Latn ka:Geor km:Khmr ko:Hang "
    "lt:Latn mk:Cyrl ml:Mlym mr:Deva ms:Latn my:Mymr nds:Latn nl:Latn no:Latn oc:Latn pl:Latn "
    "pt:Latn ro:Latn ru:Cyrl sl:Latn sq:Latn sr:Latn sv:Latn ta:Taml th:Thai tl:Latn tr:Latn "
    "tt:Cyrl ug:Arab uk:Cyrl ur:Arab vi:Latn wuu:Hani yi:Hebr yue:Hani zh:Hani"
)
# The same for at least half of the lines.
_PARTLY = (
    "be:Cyrl bg:Cyrl br:Latn ca:Latn cbk:Latn ceb:Latn cv:Cyrl cy:Latn dsb:Latn et:Latn eu:Latn "
    "fy:Latn ga:Latn gd:Latn hsb:Latn ie:Latn ilo:Latn jv:Latn kk:Cyrl ku:Latn kw:Latn la:Latn "
    "lb:Latn lv:Latn mhr:Cyrl mn:Cyrl mt:Latn nn:Latn pms:Latn sk:Latn sr:Cyrl tk:Latn uz:Latn "
    "vo:Latn war:Latn"
)


def is_recognised(label: str, script: str) -> bool:
    """Tells whether the model recognises nearly all lines of a language in a script."""
    return f"{label}:{script}" in RECOGNISED


def is_partly_recognised(label: str, script: str) -> bool:
    """Tells whether the model recognises most lines of a language in a script."""
    return f"{label}:{script}" in _PARTLY_RECOGNISED or is_recognised(label, script)


RECOGNISED = frozenset(_WELL.split())
_PARTLY_RECOGNISED = frozenset(_PARTLY.split())
RECOGNISED_LABELS = frozenset(each.split(":")[0] for each in RECOGNISED)
