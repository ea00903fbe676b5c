"""Addresses: patterns of web and e-mail addresses in running text of any language."""
# SPDX-License-Identifier: Apache-2.0

# Letters that belong to an address although they are not ASCII: of Latin, Greek and Cyrillic. In
# text without spaces, as in Chinese, Japanese, Thai or Korean with its particles, the words behind
# an address would be taken for a part of it.
_LETTERS = "A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u052f"
_ANY = rf"[{_LETTERS}._~:/?#@!$&*+,;=%|-]"
# Punctuation behind an address is not a part of it, as in GitHub Flavored Markdown, nor is a
# bracket whose partner stands before it.
_LAST = rf"[{_LETTERS}/#@$&+=%-]"
URL = rf"https?://(?:{_ANY}|\({_ANY}*\))*(?:{_LAST}|\({_ANY}*\))"

EMAIL = (
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_][A-Za-z0-9._%+-]*"
    r"@(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,}"
)

# Without `https://`: only what can't be the end of a sentence and the start of the next.
HOST = (
    r"(?<![A-Za-z0-9.@-])(?:www\.(?:[a-z0-9-]+\.)+[a-z]{2,}"
    r"|(?:[A-Za-z0-9-]+\.)+(?:com|edu|gov|info|io|net|org|[a-z]{2}(?=/)))"
    rf"(?![A-Za-z0-9-])(?:/(?:{_ANY})*)?"
)
HANDLE = r"(?<![A-Za-z0-9_@])@[A-Za-z0-9_]+"
