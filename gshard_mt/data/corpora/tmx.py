"""`tmx:` translation memories in XML, streamed; a glob matches several files."""
# SPDX-License-Identifier: Apache-2.0

import codecs
import pathlib
import re
from collections.abc import Iterator
from typing import NoReturn
from xml.parsers import expat

from gshard_mt.data.corpora.charsets import codec_of
from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import find_files, open_bytes
from gshard_mt.data.corpora.tags import ENGLISH, Tags
from gshard_mt.documents import in_one_line
from gshard_mt.errors import DataError

# Far more than real memories have.
MAX_DEPTH = 64
MAX_SEGMENT_CHARACTERS = 1 << 20
MAX_VARIANTS = 1000  # of one unit
MAX_TOKEN_BYTES = 4 << 20  # a tag with its attributes, a comment

_CHUNK_BYTES = 1 << 16
# The content of these elements is markup of another format, not text. Standalone ones, such as a
# line break, separate words.
_CODES = {"bpt": "", "ept": "", "it": "", "ph": " ", "ut": " "}
# Empty elements that are not in TMX, such as `<x/>` of XLIFF, are standalone codes, except these.
_GLUED = ("bx", "ex", "hi")

_DECLARATION = re.compile(rb"""<\?xml\s[^>]*?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")
# Encodings that expat itself decodes; it can't be taught those with several bytes a character.
_OF_EXPAT = ("ascii", "iso8859-1", "utf-8")


def read_tmx(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of every file of a glob: each wanted variant of a unit and its English.

    Text in `<hi>` is kept, codes (`<bpt>`, `<ept>`, `<it>`, `<ph>`, `<ut>`) are removed. An XML
    declaration may name any encoding that Python knows. Raises DataError with file:line for broken
    XML and for any entity declaration; an external DTD is never read.
    """
    for path in find_files(entry):
        tags, has_pairs = Tags(entry.languages, path), False
        with open_bytes(path) as file:
            chunk = file.read(_CHUNK_BYTES)
            units = _Units(path, tags, _codec(chunk, path))
            while chunk:
                units.feed(chunk)
                has_pairs = has_pairs or bool(units.pairs)
                yield from units.pairs
                units.pairs.clear()
                chunk = file.read(_CHUNK_BYTES)
        units.feed(b"", is_last=True)
        yield from units.pairs
        if not has_pairs and not units.pairs:
            raise tags.refusal()
        tags.tell()


def _codec(start: bytes, path: pathlib.Path) -> str | None:
    """Returns the encoding to decode a file from before it is parsed; None if expat can do it."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    match = _DECLARATION.match(start.removeprefix(codecs.BOM_UTF8))
    name = match[1].decode("ascii").lower() if match else "utf-8"
    if name.startswith("utf-16"):
        return None
    try:
        codec = codec_of(name)
    except ValueError:
        raise DataError(
            f"{path}:1: the encoding {name!r} is unknown; convert the file to UTF-8"
        ) from None
    if codec in _OF_EXPAT:
        return None
    has_mark = start.startswith(codecs.BOM_UTF8)  # which proves more than the declaration
    return "utf-8-sig" if has_mark else codec


class _Units:
    """Collects the pairs of the units that are complete in the bytes fed so far."""

    def __init__(self, path: pathlib.Path, tags: Tags, codec: str | None):
        self.pairs: list[Pair] = []
        self._path, self._tags = path, tags
        self._names: list[str] = []  # of the elements that are open
        self._num_bytes = 0
        self._variants: list[tuple[str, str]] = []  # of the unit: tag, text
        self._tag: str | None = None  # of the variant that is open
        self._num_segments = 0  # of the variant
        self._loose: list[str] = []  # text of the variant outside segments
        self._text: list[str] | None = None  # of the segment that is open
        self._starts: list[int] = []  # where in the text each element within the segment starts
        self._num_characters = self._num_codes = 0
        self._decoder = codecs.getincrementaldecoder(codec)() if codec else None
        self._num_lines = 0  # decoded
        parser = self._parser = expat.ParserCreate("utf-8" if codec else None)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add_text
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._entity
        parser.ExternalEntityRefHandler = self._entity

    def feed(self, chunk: bytes, is_last: bool = False) -> None:
        if self._decoder:
            chunk = self._decode(self._decoder, chunk, is_last)
        self._num_bytes += len(chunk)
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise DataError(
                f"{self._path}:{error.lineno}: broken XML: {expat.ErrorString(error.code)}"
            ) from None
        except (ValueError, LookupError) as error:
            self._refuse(f"can't be decoded: {error}")
        if self._num_bytes - self._parser.CurrentByteIndex > MAX_TOKEN_BYTES:
            self._refuse(f"a tag or comment of more than {MAX_TOKEN_BYTES} bytes")

    def _decode(self, decoder: codecs.IncrementalDecoder, chunk: bytes, is_last: bool) -> bytes:
        try:
            text = decoder.decode(chunk, is_last)
            self._num_lines += text.count("\n")
            return text.encode()
        except UnicodeDecodeError as error:
            line = self._num_lines + error.object[: error.start].count(b"\n") + 1
            reason = error.reason
        except UnicodeError as error:  # half of a surrogate pair
            line, reason = self._num_lines + 1, in_one_line(error)
        raise DataError(
            f"{self._path}:{line}: not in the encoding that the XML declaration names: {reason}"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._names and name != "tmx":
            self._refuse(f"the root element is {name[:40]!r}; accepted: 'tmx'")
        self._names.append(name)
        if len(self._names) > MAX_DEPTH:
            self._refuse(f"elements {len(self._names)} deep; accepted: {MAX_DEPTH}")
        if self._text is not None:
            if name == "seg":
                self._refuse("a <seg> in a <seg>")
            self._num_codes += name in _CODES
            self._starts.append(len(self._text))
        elif name == "tu":
            self._variants = []
        elif name == "tuv":
            tag = attributes.get("xml:lang") or attributes.get("lang")
            if not tag:
                self._refuse("a <tuv> without xml:lang")
            self._tag = tag if self._tags[tag] is not None else None
            self._loose, self._num_segments, self._num_characters = [], 0, 0
            self._tags.pass_over(tag)
        elif name == "seg" and self._tag is not None:
            self._num_segments += 1
            self._text, self._starts, self._num_characters, self._num_codes = [], [], 0, 0

    def _add_text(self, text: str) -> None:
        is_loose = self._text is None and self._tag is not None and self._names[-1] == "tuv"
        wanted = self._loose if is_loose else self._text
        if wanted is None or self._num_codes:
            return
        self._num_characters += len(text)
        if self._num_characters > MAX_SEGMENT_CHARACTERS:
            self._refuse(f"a segment of more than {MAX_SEGMENT_CHARACTERS} characters")
        wanted.append(text)

    def _end(self, name: str) -> None:
        self._names.pop()
        if self._text is not None and name != "seg":
            self._end_inline(name, self._text)
        elif name == "seg" and self._text is not None:
            self._add_variant("".join(self._text))
            self._text = None
        elif name == "tuv":
            loose = "".join(self._loose).strip()
            if loose and self._num_segments:
                self._refuse(f"text outside <seg>: {loose[:40]!r}; accepted: inside it")
            if loose:  # some programs leave <seg> out
                self._add_variant(loose)
            self._tag = None
        elif name == "tu":
            english = [text for tag, text in self._variants if self._tags[tag] == ENGLISH]
            if english:  # of en-GB and en-US, the first that has text
                chosen = next(filter(str.strip, english), "")
                self.pairs += [
                    Pair(tag, text, chosen)
                    for tag, text in self._variants
                    if self._tags[tag] != ENGLISH
                ]
            self._variants = []

    def _end_inline(self, name: str, text: list[str]) -> None:
        start = self._starts.pop()
        if name in _CODES:
            self._num_codes -= 1
            self._add_text(_CODES[name])
        elif len(text) == start and name not in _GLUED:
            self._add_text(" ")

    def _add_variant(self, text: str) -> None:
        if self._tag is not None:
            self._variants.append((self._tag, text))
        if len(self._variants) > MAX_VARIANTS:
            self._refuse(f"a unit of more than {MAX_VARIANTS} variants")

    def _doctype(self, name: str, system: str | None, public: str | None, has_subset: int) -> None:
        # Many memories name tmx14.dtd, which is never fetched. But an internal subset may declare
        # entities that expand without limit or read other files.
        if has_subset:
            self._refuse("a DTD inside the file; delete it: entities are never expanded")

    def _entity(self, *_) -> NoReturn:
        self._refuse("an entity that XML doesn't have by itself; write what it stands for")

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(f"{self._path}:{self._parser.CurrentLineNumber}: {what}")
