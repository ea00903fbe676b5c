"""Charsets: the codec for an encoding that a file names, as wide as what is written under it."""
# SPDX-License-Identifier: Apache-2.0

import codecs
import re

# What programs write under these names has characters of later extensions, as browsers assume:
# https://encoding.spec.whatwg.org. Each codec here reads all that the narrow one does.
_WIDER = {
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
}


def codec_of(charset: str) -> str:
    """Returns Python's name of a text encoding, wide enough for what is found under its name.

    Raises ValueError if there is none.
    """
    bare = charset.lower().removeprefix("x-")
    for name in (charset, bare, re.sub("^windows-", "cp", bare.replace("31j", "932"))):
        try:
            b"a".decode(name)  # refuses codecs between other kinds of data, such as hex
            codecs.getincrementaldecoder(name)
            found = codecs.lookup(name).name
        except (LookupError, ValueError):
            continue
        return _WIDER.get(found, found)
    raise ValueError(f"charset: found {charset!r}, accepted: an encoding such as UTF-8")
