"""A file of one sentence per line reads back as written, whatever the sentences contain."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.data.normalization import one_line
from gshard_mt.errors import DataError
from gshard_mt.evaluate.folder import read_lines, write_lines


def test_every_sentence_is_one_line_and_reads_back(tmp_path):
    sentences = ["", "a\u2028b\x85c", " d ", one_line("two\r\nlines\nor\rmore"), ""]
    write_lines(tmp_path / "de-en.ref.txt", sentences)
    assert read_lines(tmp_path / "de-en.ref.txt", 5) == sentences
    assert sentences[3] == "two lines or more"


def test_a_missing_or_short_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(DataError, match="de-en.ref.txt: can't be read"):
        read_lines(tmp_path / "de-en.ref.txt", 2)
    (tmp_path / "de-en.ref.txt").write_bytes(b"\xff\n\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_lines(tmp_path / "de-en.ref.txt", 2)
    write_lines(tmp_path / "de-en.ref.txt", ["a"])
    with pytest.raises(DataError, match="found 1 lines, accepted: 2"):
        read_lines(tmp_path / "de-en.ref.txt", 2)
