"""`gettext:` PO and MO catalogues, in a folder, an installed package or a wheel."""
# SPDX-License-Identifier: Apache-2.0

import gettext
import importlib.metadata
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from gshard_mt.data.corpora.archive import check_total, find_archive, open_archive, read_member
from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.fetch import is_requirement
from gshard_mt.data.corpora.files import open_bytes
from gshard_mt.data.corpora.mo import parse_mo
from gshard_mt.data.corpora.po import PoSyntaxError, parse_po
from gshard_mt.data.corpora.tags import ENGLISH, Tags
from gshard_mt.documents import in_one_line
from gshard_mt.errors import DataError
from gshard_mt.language_scripts import script_of_modifier
from gshard_mt.languages import code_of_name, is_language
from gshard_mt.storage.bucket_path import find_paths

MAX_CATALOGUE_BYTES = 64 << 20

_SUFFIXES = (".po", ".mo")
_MANY = 5  # every language has its common plural for five; some have duals and paucals for fewer
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLURAL = re.compile(r"plural\s*=\s*([^;\n]+)")
_LOCALE_AT_END = re.compile(
    r".+(?:\.(?=[a-z]{2}$)|[-._](?=[a-z]{2,3}[-_][A-Z]))(?P<locale>[A-Za-z_-]+)"
)
_LANGUAGE = re.compile(r"^Language:[ \t]*(\S.*?)[ \t\r]*$", re.MULTILINE)


class _Catalogue(NamedTuple):
    name: str  # its path, or its archive and the path in that
    path: pathlib.PurePath  # what the locale is read from
    read: Callable[[], bytes]


def read_gettext(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of every catalog of a wanted language; messages are English.

    `entry.location` is a file, a glob, a folder, a `.whl`, NAME==VERSION of a wheel to fetch, or
    the name of an installed package. The locale is that of the folder above LC_MESSAGES, else of
    the header, else of the file's or folder's name, else the entry's only language. A catalogue of
    a locale that is no language is passed over, which is said at the end. An MO file next to its PO
    file is skipped, and so are fuzzy and obsolete messages and those without a translation.

    Of a plural message, the singular is paired with the form for 1 and the plural with the form
    for 5. If these are the same form, only the plural makes a pair.
    """
    if entry.path.suffix == ".whl" or is_requirement(entry.location):
        path = find_archive(entry)
        with open_archive(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            names = _without_twins(name for name in members if name.endswith(_SUFFIXES))
            check_total(archive, sum(members[name].file_size for name in names))
            catalogues = [
                _Catalogue(
                    f"{path}:{name}",
                    pathlib.PurePosixPath(name),
                    lambda name=name: read_member(archive, members[name]),
                )
                for name in names
            ]
            yield from _pairs_of_all(catalogues, Tags(entry.languages, path))
    else:
        files = {str(path): path for path in _find(entry)}
        paths = [files[name] for name in _without_twins(files)]
        catalogues = [
            _Catalogue(str(path), path, lambda path=path: _content(path)) for path in paths
        ]
        yield from _pairs_of_all(catalogues, Tags(entry.languages, entry.path))


def plural_forms(header: str) -> tuple[int, int]:
    """Returns the indices of the forms for 1 and for 5 according to a catalog's header.

    Without Plural-Forms, gettext's default applies: two forms, the first for 1. Raises ValueError.
    """
    match = _PLURAL.search(header)
    if not match or match[1].strip() == "EXPRESSION":  # a template's
        return 0, 1
    try:
        form = gettext.c2py(match[1].strip())  # type: ignore[attr-defined]
        return form(1), form(_MANY)
    except (ArithmeticError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"Plural-Forms can't be understood: {in_one_line(error)}") from None


def _pairs_of_all(catalogues: Iterable[_Catalogue], tags: Tags) -> Iterator[Pair]:
    has_pairs = False
    for catalogue in catalogues:
        locale = _locale_of_folder(catalogue.path)
        if locale and tags[locale] in (None, ENGLISH):
            tags.pass_over(locale)
            continue
        try:
            content = catalogue.read()
            for pair in _pairs(content, catalogue.path, locale, tags):
                has_pairs = True
                yield pair
        except ValueError as error:
            line = f":{error.line}" if isinstance(error, PoSyntaxError) else ""
            kind = catalogue.path.suffix[1:].upper()
            raise DataError(
                f"{catalogue.name}{line}: not a {kind} catalogue: {in_one_line(error)}"
            ) from None
    if not has_pairs and tags:
        raise tags.refusal()
    tags.tell("catalogues")


def _pairs(
    content: bytes, path: pathlib.PurePath, locale: str | None, tags: Tags
) -> Iterator[Pair]:
    parse = parse_mo if path.suffix == ".mo" else parse_po
    messages = list(parse(content))
    header = next((message.forms[0] for message in messages if not message.singular), "")
    said = locale or _locale_of_header(header)
    locale = said if said and is_language(said) else _locale_of_name(path) or said or tags.single
    if tags[locale] in (None, ENGLISH):
        tags.pass_over(locale)
        return
    one, many = plural_forms(header)
    for message in messages:
        if not message.singular:
            continue
        if not message.plural:
            if message.forms[0]:
                yield Pair(locale, message.forms[0], message.singular)
            continue
        forms = [(message.singular, one), (message.plural, many)]
        for english, index in forms[one == many :]:
            if index < len(message.forms) and message.forms[index]:
                yield Pair(locale, message.forms[index], english)


def _find(entry: Entry) -> list[pathlib.Path]:
    path = entry.path
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = list(path.rglob("*"))
    else:
        found = find_paths(path) or _installed(entry.location)
    found = [file for file in found if file.suffix in _SUFFIXES and file.is_file()]
    if not found:
        what = "has no .po or .mo file" if path.exists() else "no such file, folder or package"
        raise DataError(f"{path}: {what}; accepted: catalogues, NAME==VERSION of a wheel")
    return found


def _installed(name: str) -> list[pathlib.Path]:
    if not _PACKAGE.fullmatch(name):
        return []
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [pathlib.Path(str(file.locate())) for file in files]


def _without_twins(names: Iterable[str]) -> list[str]:
    """Returns the names, sorted, without the MO files that are next to their PO file."""
    every = set(names)
    return sorted(
        name for name in every if name.endswith(".po") or f"{name[: -len('.mo')]}.po" not in every
    )


def _content(path: pathlib.Path) -> bytes:
    with open_bytes(path) as file:
        content = file.read(MAX_CATALOGUE_BYTES + 1)
    if len(content) > MAX_CATALOGUE_BYTES:
        raise DataError(f"{path}: a catalogue of more than {MAX_CATALOGUE_BYTES} bytes")
    return content


def _locale_of_folder(path: pathlib.PurePath) -> str | None:
    folders = path.parts
    if "LC_MESSAGES" not in folders[1:-1]:
        return None
    return _tag(folders[folders.index("LC_MESSAGES", 1) - 1])


def _locale_of_header(header: str) -> str | None:
    if not (match := _LANGUAGE.search(header)):
        return None
    tag = _tag(match[1].split()[0])
    return tag if is_language(tag) else code_of_name(match[1]) or tag


def _locale_of_name(path: pathlib.PurePath) -> str | None:
    """Returns the locale of `de.po`, `messages.de.po`, `plugin-pt_BR.po` or `de/messages.po`."""
    name, folder = _tag(path.stem), _tag(path.parent.name)
    is_folder = len(re.split("[-_]", folder)[0]) == 2 and is_language(folder)
    # `de/gui.po`: names of programs are codes, too, but hardly with three letters below two.
    if is_language(path.stem) and not (len(name) == 3 and is_folder):
        return name
    end = _LOCALE_AT_END.fullmatch(path.stem)
    if end and is_language(end["locale"]):
        return end["locale"]
    return folder if is_folder else None


def _tag(locale: str) -> str:
    """Returns `sr-Latn` for `sr_RS.UTF-8@latin`, `ca_ES` for `ca_ES@valencia`."""
    name, _, modifier = locale.partition("@")
    language = name.partition(".")[0]
    script = script_of_modifier(modifier)
    return f"{re.split('[-_]', language)[0]}-{script}" if script else language
