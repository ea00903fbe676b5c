"""Text output: the file that translations go to, and the row that each of them becomes."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import io
import json
import os
import stat
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from gshard_mt.data.normalization import one_line
from gshard_mt.decode.translation import Translation
from gshard_mt.errors import ConfigError
from gshard_mt.run.calibration import ConfidenceCurve
from gshard_mt.storage.bucket_path import BucketPath, open_path

if TYPE_CHECKING:
    from gshard_mt.cli.text_input import Source


class RowLayout(NamedTuple):
    """What a row has besides the translation."""

    has_number: bool = False  # of the input line, from 1
    has_score: bool = False
    has_source: bool = False
    is_json: bool = False  # an object with all of these
    calibration: ConfidenceCurve | None = None  # for a row that has a confidence


def format_row(layout: RowLayout, number: int, line: str, translation: Translation) -> str:
    """Returns the row of a translation with its line end.

    In columns, the line is as it was read, but for tabs in it, which become spaces. In JSON it is
    as it was read.
    """
    confidence = layout.calibration and layout.calibration.confidence(translation.mean)
    if layout.is_json:
        return _format_json(number, line, translation, confidence)
    columns = [str(number)] if layout.has_number else []
    columns += [f"{translation.score:.4f}"] if layout.has_score else []
    columns += [] if confidence is None else [f"{confidence:.4f}"]
    columns += [one_line(line)] if layout.has_source else []
    return "\t".join([*columns, translation.text]) + "\n"


def open_output(
    path: str | None, sources: Iterable["Source"], files: contextlib.ExitStack
) -> BinaryIO:
    """Opens --output, or standard output if there is none, without emptying it yet.

    Raises ConfigError if it can't be written or is one of the inputs.
    """
    output, name = sys.stdout.buffer, "standard output"
    if path:
        name = path
        if isinstance(open_path(name), BucketPath):
            raise ConfigError(
                f"--output: found {name}, accepted: a file on a disk; or copy standard output with "
                "the store's own program"
            )
        try:
            output = files.enter_context(open(name, "ab"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                f"--output: found {name}, which can't be written ({reason}); accepted: a file in "
                "an existing folder"
            ) from None
    for source in sources:
        if is_regular(output) and is_regular(source.file):
            if os.path.sameopenfile(output.fileno(), source.file.fileno()):
                raise ConfigError(
                    f"--output: found {name}, which is the same file as the input {source.name}; "
                    "accepted: another file"
                )
    return output


def is_regular(file: BinaryIO) -> bool:
    """Tells whether an open file is one on a disk, not a pipe, a terminal or in memory."""
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except io.UnsupportedOperation:  # in memory
        return False


def _format_json(number: int, line: str, translation: Translation, confidence: float | None) -> str:
    """Returns an object that `jsonl:` reads (data/corpora/rows.py); it ignores the other keys."""
    fields: dict[str, Any] = {"line": number, "source": line, "target": translation.text}
    fields["score"] = round(translation.score, 4)  # as in a column
    if confidence is not None:
        fields["confidence"] = round(confidence, 4)
    if translation.is_truncated:
        fields["truncated"] = True
    if translation.is_in_pieces:
        fields["in_pieces"] = True
    return json.dumps(fields, ensure_ascii=False) + "\n"
