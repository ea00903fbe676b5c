"""`tmx:` translation memories in XML, streamed; a glob matches several files."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterator
from typing import NoReturn
from xml.parsers import expat

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import find_files, open_bytes
from gshard_mt.data.corpora.tags import ENGLISH, Tags
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


def read_tmx(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of every file of a glob: each wanted variant of a unit and its English.

    Text in `<hi>` is kept, codes (`<bpt>`, `<ept>`, `<it>`, `<ph>`, `<ut>`) are removed. An XML
    declaration may name another encoding than UTF-8. Raises DataError with file:line for broken XML
    and for any entity declaration; an external DTD is never read.
    """
    for path in find_files(entry):
        tags = Tags(entry.languages, path)
        units, has_pairs = _Units(path, tags), False
        with open_bytes(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                units.feed(chunk)
                has_pairs = has_pairs or bool(units.pairs)
                yield from units.pairs
                units.pairs.clear()
        units.feed(b"", is_last=True)
        yield from units.pairs
        if not has_pairs and not units.pairs:
            raise tags.refusal()


class _Units:
    """Collects the pairs of the units that are complete in the bytes fed so far."""

    def __init__(self, path: pathlib.Path, tags: Tags):
        self.pairs: list[Pair] = []
        self._path, self._tags = path, tags
        self._names: list[str] = []  # of the elements that are open
        self._num_bytes = 0
        self._variants: list[tuple[str, str]] = []  # of the unit: tag, text
        self._tag: str | None = None  # of the variant that is open
        self._text: list[str] | None = None  # of the segment that is open
        self._num_characters = self._num_codes = 0
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add_text
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._entity
        parser.ExternalEntityRefHandler = self._entity

    def feed(self, chunk: bytes, is_last: bool = False) -> None:
        self._num_bytes += len(chunk)
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise DataError(
                f"{self._path}:{error.lineno}: broken XML: {expat.ErrorString(error.code)}"
            ) from None
        except (ValueError, LookupError) as error:
            # An encoding that expat can't use through Python.
            self._refuse(f"can't be decoded: {error}")
        if self._num_bytes - self._parser.CurrentByteIndex > MAX_TOKEN_BYTES:
            self._refuse(f"a tag or comment of more than {MAX_TOKEN_BYTES} bytes")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._names and name != "tmx":
            self._refuse(f"the root element is {name[:40]!r}; accepted: 'tmx'")
        self._names.append(name)
        if len(self._names) > MAX_DEPTH:
            self._refuse(f"elements {len(self._names)} deep; accepted: {MAX_DEPTH}")
        if name in _CODES and self._text is not None:
            self._num_codes += 1
        elif name == "tu":
            self._variants = []
        elif name == "tuv":
            tag = attributes.get("xml:lang") or attributes.get("lang")
            if not tag:
                self._refuse("a <tuv> without xml:lang")
            self._tag = tag if self._tags[tag] is not None else None
        elif name == "seg" and self._tag is not None:
            self._text, self._num_characters, self._num_codes = [], 0, 0

    def _add_text(self, text: str) -> None:
        if self._text is None or self._num_codes:
            return
        self._num_characters += len(text)
        if self._num_characters > MAX_SEGMENT_CHARACTERS:
            self._refuse(f"a segment of more than {MAX_SEGMENT_CHARACTERS} characters")
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._names.pop()
        if name in _CODES and self._text is not None:
            self._num_codes -= 1
            self._add_text(_CODES[name])
        elif name == "seg" and self._text is not None and self._tag is not None:
            self._variants.append((self._tag, "".join(self._text)))
            self._text = None
            if len(self._variants) > MAX_VARIANTS:
                self._refuse(f"a unit of more than {MAX_VARIANTS} variants")
        elif name == "tuv":
            self._tag = None
        elif name == "tu":
            english = [text for tag, text in self._variants if self._tags[tag] == ENGLISH]
            if english:  # of en-GB and en-US, the first
                self.pairs += [
                    Pair(tag, text, english[0])
                    for tag, text in self._variants
                    if self._tags[tag] != ENGLISH
                ]
            self._variants = []

    def _doctype(self, name: str, system: str | None, public: str | None, has_subset: int) -> None:
        # Many memories name tmx14.dtd, which is never fetched. But an internal subset may declare
        # entities that expand without limit or read other files.
        if has_subset:
            self._refuse("a DTD inside the file; delete it: entities are never expanded")

    def _entity(self, *_) -> NoReturn:
        self._refuse("an entity that XML doesn't have by itself; write what it stands for")

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(f"{self._path}:{self._parser.CurrentLineNumber}: {what}")
