"""Markup: finds HTML that was left in text and makes a pair useless."""
# SPDX-License-Identifier: Apache-2.0

import re
from collections import Counter

# The elements that occur in text. `<your name>` is words, not a tag.
_ELEMENTS = (
    "a|abbr|acronym|b|big|blockquote|body|br|button|center|cite|code|dd|del|div|dl|dt|em|font|form"
    "|h[1-6]|head|hr|html|i|iframe|img|input|ins|kbd|label|li|link|meta|ol|option|p|pre|q|s|samp"
    "|script|section|select|small|span|strike|strong|style|sub|sup|table|tbody|td|textarea|th|thead"
    "|title|tr|tt|u|ul|var|wbr"
)
_TAG = re.compile(rf"<(/?(?:{_ELEMENTS}))(?:\s[^<>]*|/)?\s*/?>|(<!--|-->|<!doctype\b)", re.I)
# &nbsp; &#39; &#x27; and, where text was tokenized, `& nbsp ;` and `& # 39 ;`
_ENTITY = re.compile(
    r"&(?:[A-Za-z]{2,8}\d?|\s?(?:[lg]t|amp|nbsp|quot|apos|#\s?\d{1,6}|#\s?[xX][0-9A-Fa-f]{1,6})\s?);"
)


def has_html(source: str, english: str) -> bool:
    """Tells whether a pair holds remains of HTML.

    Entities always count, since text should have the characters themselves. Tags count if the
    sides differ in them: an interface string has `<b>` on both sides, and a model may learn that.
    """
    if _ENTITY.search(source) or _ENTITY.search(english):
        return True
    return _tags(source) != _tags(english)


def is_html(placeholder: str) -> bool:
    """Tells whether an apparent placeholder is an HTML tag or entity."""
    return bool(_TAG.fullmatch(placeholder) or _ENTITY.fullmatch(placeholder))


def _tags(text: str) -> Counter[str]:
    if "<" not in text and "-->" not in text:
        return Counter()
    return Counter((tag or comment).lower() for tag, comment in _TAG.findall(text))
