"""PO files, the text form of gettext catalogues, read by the grammar of gettext's own tools."""
# SPDX-License-Identifier: Apache-2.0

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from gshard_mt.data.corpora.mo import Message, charset_of

# As in gettext's po-lex.c. A line ends with a line feed only: carriage returns, vertical tabs and
# form feeds are spaces between tokens and characters within strings, and so are U+0085 and U+2028
# within strings.
_TOKEN = re.compile(
    r"""
      (?P<space> [ \t\r\f\v]+ | \\\n )
    | (?P<end> \n )
    | (?P<mark> \#~\|? | \#\| )
    | \# (?P<comment> [^\n]* )
    | " (?P<string> (?: [^"\\\n]+ | \\[\s\S] )*+ ) "
    | (?P<word> [A-Za-z_$][A-Za-z0-9_$]* )
    | (?P<number> [0-9]+ )
    | (?P<bracket> [][] )
    """,
    re.VERBOSE,
)
_KEYWORDS = ("domain", "msgctxt", "msgid", "msgid_plural", "msgstr")
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\\"])|([0-7]{1,3})|x([0-9A-Fa-f]+)|(\n))|(\\)")
_CONTROLS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_FLAGS = (",", "!", "=")  # a comment that starts so has flags
_SEPARATORS = re.compile(r"[\s,]+")
_UNDECODED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte


class PoSyntaxError(ValueError):
    """A catalogue breaks the grammar of gettext at a line."""

    def __init__(self, line: int, what: str):
        super().__init__(f"a syntax error: {what}")
        self.line = line


class _Token(NamedTuple):
    kind: str  # a keyword, `string`, `number`, `comment`, `[`, `]`, `end`
    text: str
    line: int
    is_obsolete: bool


def parse_po(content: bytes) -> Iterator[Message]:
    """Yields the messages that have a translation to use; an empty singular is the header's.

    Fuzzy and obsolete messages are left out. What gettext refuses raises PoSyntaxError, but for a
    message that occurs twice; text in another encoding than the header names raises ValueError,
    except in comments.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it looks like UTF-16; convert the file to UTF-8")
    charset = charset_of(content)
    text = content.decode(charset, "surrogateescape").removeprefix("\ufeff")
    if "\n" not in text:  # lines end as on old Macs
        text = text.replace("\r", "\n")
    reader = _Reader(text, charset)
    is_fuzzy = False
    while reader.next.kind != "end":
        if reader.next.kind == "comment":
            is_fuzzy |= _has_fuzzy(reader.take("comment").text)
        elif reader.next.kind == "domain":
            reader.begin()
            reader.take("domain")
            reader.take("string")
        else:
            reader.begin()
            has_context, message = _read_message(reader)
            is_header = not message.singular and not has_context
            if not reader.is_obsolete and (is_header or (message.singular and not is_fuzzy)):
                yield message
            is_fuzzy = False


def _read_message(reader: "_Reader") -> tuple[bool, Message]:
    """Returns whether there is a context, and the message."""
    has_context = reader.next.kind == "msgctxt"
    if has_context:
        reader.take("msgctxt")
        reader.take_strings()
    reader.take("msgid")
    singular = reader.take_strings()
    if reader.next.kind != "msgid_plural":
        reader.take("msgstr")
        return has_context, Message(singular, "", [reader.take_strings()])
    reader.take("msgid_plural")
    plural, forms = reader.take_strings(), []
    while not forms or reader.next.kind == "msgstr":
        line = reader.take("msgstr").line
        reader.take("[")
        index = reader.take("number").text
        if index.lstrip("0") != (str(len(forms)) if forms else ""):
            raise PoSyntaxError(line, f"msgstr[{index[:9]}]; accepted here: msgstr[{len(forms)}]")
        reader.take("]")
        forms.append(reader.take_strings())
    return has_context, Message(singular, plural, forms)


class _Reader:
    """The tokens of a catalogue, of which the next can be seen before it is taken."""

    def __init__(self, text: str, charset: str):
        self._charset, self._tokens, self.is_obsolete = charset, _tokens(text), False
        self.next = next(self._tokens)

    def begin(self) -> None:
        """Begins a message: all its tokens are obsolete, marked by #~, or none is."""
        self.is_obsolete = self.next.is_obsolete

    def take(self, kind: str) -> _Token:
        """Returns the next token. Raises PoSyntaxError if it is of another kind."""
        token = self.next
        if token.kind != kind:
            raise PoSyntaxError(token.line, f"found {token.kind}; accepted here: {kind}")
        if token.is_obsolete != self.is_obsolete and kind != "comment":
            raise PoSyntaxError(token.line, "only some lines of a message are marked by #~")
        self.next = next(self._tokens)
        return token

    def take_strings(self) -> str:
        """Returns a text that is written as one or more strings."""
        texts = [_unescape(self.take("string"), self._charset)]
        while self.next.kind == "string":
            texts.append(_unescape(self.take("string"), self._charset))
        return "".join(texts)


def _tokens(text: str) -> Iterator[_Token]:
    """Yields what the parser reads; previous messages, marked by #|, are left out."""
    at, line = 0, 1
    is_obsolete = is_previous = False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            what = "a string without closing quote" if text[at] == '"' else f"found {text[at]!r}"
            raise PoSyntaxError(line, what)
        kind, found, at = str(match.lastgroup), match[str(match.lastgroup)], match.end()
        if kind == "end":
            is_obsolete = is_previous = False
        elif kind == "mark":
            is_obsolete |= "~" in found
            is_previous |= "|" in found
        elif kind != "space":
            if kind == "word" and found not in _KEYWORDS:
                raise PoSyntaxError(line, f"the keyword {found[:40]!r} is unknown")
            if not is_previous or kind == "comment":
                kind = found if kind in ("word", "bracket") else kind
                yield _Token(kind, found, line, is_obsolete)
        line += match[0].count("\n")
    yield _Token("end", "", line, False)


def _unescape(token: _Token, charset: str) -> str:
    text = token.text
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: _escaped(match, token.line), text)
    if _UNDECODED.search(text):
        # Bytes written as numbers are characters together; others are in another encoding.
        try:
            text = text.encode(charset, "surrogateescape").decode(charset)
        except UnicodeError:
            raise ValueError(f"the text in line {token.line} is not {charset}") from None
    return text


def _escaped(match: re.Match[str], line: int) -> str:
    letter, octal, hexadecimal, line_end, wrong = match.groups()
    if wrong:
        raise PoSyntaxError(line, r"an unknown control sequence behind a \ in a string")
    if line_end:
        return ""
    if letter:
        return _CONTROLS.get(letter, letter)
    byte = int(octal, 8) if octal else int(hexadecimal[-2:], 16)
    return chr(byte & 0x7F) if byte & 0xFF < 0x80 else chr(0xDC00 + (byte & 0xFF))


def _has_fuzzy(comment: str) -> bool:
    return comment.startswith(_FLAGS) and "fuzzy" in _SEPARATORS.split(comment[1:])
