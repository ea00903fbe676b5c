"""TFRecord files, one record after another, without TensorFlow."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import struct
from collections.abc import Iterator

from gshard_mt.data.corpora.files import open_bytes

MAX_RECORD_BYTES = 64 << 20

_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_CRC_BYTES = 4


def read_records(path: pathlib.Path) -> Iterator[bytes]:
    """Yields the records. Raises DataError if the file is truncated or a length is damaged.

    The checksum of each length is verified, that of the content is not.
    """
    with open_bytes(path, is_text=False) as file:
        while header := file.read(12):
            if len(header) < 12:
                raise EOFError("the file ends in the middle of a record")
            length, crc = struct.unpack("<QI", header)
            if crc != masked_crc(header[:8]) or length > MAX_RECORD_BYTES:
                raise ValueError("the length of a record is damaged, or this is no TFRecord file")
            content = file.read(length + _CRC_BYTES)
            if len(content) < length + _CRC_BYTES:
                raise EOFError("the file ends in the middle of a record")
            yield content[:-_CRC_BYTES]


def masked_crc(content: bytes) -> int:
    """Returns the CRC-32C of a few bytes as TFRecord writes it, rotated and shifted."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _row(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_row(byte) for byte in range(256)]
