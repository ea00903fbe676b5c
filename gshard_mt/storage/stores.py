"""Stores: the requests to Google Cloud Storage and S3, tried again while a store is busy.

The only module that knows the libraries: gcsfs and s3fs, which are extras. They read the address of
another server from STORAGE_EMULATOR_HOST and AWS_ENDPOINT_URL.
"""
# SPDX-License-Identifier: Apache-2.0

import errno
import importlib.util
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from gshard_mt.errors import StorageError

# Their own retries take about half a minute; then the whole request is made again.
_NUM_TRIES = 3
_SHORTEST_PAUSE = 2.0  # seconds
_LONGEST_SILENCE = 60.0  # seconds until a request whose answer doesn't come is made again
_BUSY = (408, 409, 429, 500, 502, 503, 504)  # HTTP status; 409: two conditional writes at once
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAX_CHARACTERS = 300  # of an error message that a library wrote

Result = TypeVar("Result")


class ObjectInfo(NamedTuple):
    """An object, or what begins with a name as if it were a folder."""

    name: str  # bucket/key
    is_folder: bool
    num_bytes: int
    version: str  # changes whenever the content does
    md5: str  # hexadecimal; "" if the store doesn't say. Of S3, it may be no MD5.
    modified: float  # seconds since 1970; 0.0 if unknown


class Store(NamedTuple):
    """A kind of bucket, by its scheme."""

    scheme: str
    extra: str
    package: str
    open: Callable[[], Any]  # -> fsspec's file system
    whole: dict[str, Any]  # to read an object in one request, never half old and half new
    describe: Callable[[dict[str, Any]], tuple[str, str]]  # -> version, MD5


def _open_gcs() -> Any:
    # It logs that it is imported, and tracebacks of what it raises.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    import aiohttp
    from gcsfs.core import GCSFileSystem  # the package's own asks for each bucket's kind first

    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    # The default, 5 minutes for a whole request, is short for large objects and long for lost ones.
    limits = aiohttp.ClientTimeout(sock_connect=_LONGEST_SILENCE, sock_read=_LONGEST_SILENCE)
    # fsspec keeps one object for each set of arguments, and the endpoint is one of them.
    return GCSFileSystem(
        token="anon" if emulator else None,
        endpoint_url=emulator,
        use_listings_cache=False,
        requests_timeout=limits,
    )


def _open_s3() -> Any:
    logging.getLogger("botocore").setLevel(logging.WARNING)  # INFO says where credentials are
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    from s3fs import S3FileSystem

    settings = {
        "retries": {"mode": "standard", "max_attempts": 6},
        "connect_timeout": _LONGEST_SILENCE,
        "read_timeout": _LONGEST_SILENCE,
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, config_kwargs=settings)


def _describe_gcs(info: dict[str, Any]) -> tuple[str, str]:
    import base64

    return str(info.get("generation", "")), base64.b64decode(info.get("md5Hash", "")).hex()


def _describe_s3(info: dict[str, Any]) -> tuple[str, str]:
    tag = str(info.get("ETag", "")).strip('"')
    return tag, tag if len(tag) == 32 else ""  # those of several parts have a number at the end


STORES = {
    "gs": Store("gs", "gcs", "gcsfs", _open_gcs, {}, _describe_gcs),
    "s3": Store("s3", "s3", "s3fs", _open_s3, {"max_concurrency": 1}, _describe_s3),
}


def check_installed(scheme: str) -> None:
    """Raises StorageError if the package that a scheme needs is not installed."""
    store = STORES[scheme]
    if importlib.util.find_spec(store.package) is None:
        raise StorageError(
            f"{scheme}://: needs the package {store.package}; pip install "
            f"'gshard-mt[{store.extra}]'"
        )


def request(url: str, make: Callable[[Any, Store], Result]) -> Result:
    """Returns what `make` does with the file system of a URL, tried again if the store is busy.

    Raises FileNotFoundError, FileExistsError, or StorageError in one line for all else.
    """
    store = STORES[url.partition(":")[0]]
    check_installed(store.scheme)
    number = 0
    while True:
        number += 1
        try:
            return make(store.open(), store)  # fsspec gives the same object each time
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # of four libraries, with no base in common
            is_busy = _is_busy(error)
            if not is_busy and not _is_of_library(error):
                raise
            said = _in_one_line(error)
            if not is_busy:
                raise StorageError(
                    f"{url}: the store refuses ({said}); check the bucket's name, your credentials "
                    "and their rights"
                ) from None
            if number == _NUM_TRIES:
                raise StorageError(
                    f"{url}: the store does not answer ({said}); check the network, or run the "
                    "same command again later"
                ) from None
            print(f"{url}: the store does not answer ({said}); trying again", file=sys.stderr)
        time.sleep(_SHORTEST_PAUSE * random.uniform(1, 2) * number)


def to_info(store: Store, info: dict[str, Any]) -> ObjectInfo:
    """Returns what a library says of an object."""
    modified = info.get("LastModified") or info.get("mtime")
    return ObjectInfo(
        info["name"].rstrip("/"),
        info["type"] == "directory",
        int(info.get("size") or 0),
        *store.describe(info),
        modified.timestamp() if modified else 0.0,
    )


def _is_busy(error: BaseException | None) -> bool:
    """Tells whether an error, or one that caused it, passes by itself."""
    while error is not None:
        response = getattr(error, "response", None)
        answered = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        status = answered.get("HTTPStatusCode") or getattr(error, "code", None)
        if str(status) in map(str, _BUSY) or isinstance(error, TimeoutError | ConnectionError):
            return True
        names = {f"{each.__module__}.{each.__name__}" for each in type(error).__mro__}
        if names & _PASSING:
            return True
        error = error.__cause__
    return False


_PASSING = {
    "aiohttp.client_exceptions.ClientError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "gcsfs.retry.ChecksumError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
}
_LIBRARIES = ("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "requests", "s3fs")


def _is_of_library(error: BaseException) -> bool:
    """Tells whether an error is the store's answer, not our bug."""
    is_theirs = type(error).__module__.partition(".")[0] in _LIBRARIES
    is_local = isinstance(error, OSError) and (error.filename or error.errno in _DISK_FULL)
    return is_theirs or (isinstance(error, OSError | ValueError) and not is_local)


def _in_one_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())[:_MAX_CHARACTERS]
    return text or type(error).__name__
