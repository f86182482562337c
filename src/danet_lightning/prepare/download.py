"""Fetch a file over HTTP: resumed after a cut, verified, and under its name only when whole."""

import os
import re
import sys
import time
from collections.abc import Sequence
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from danet_lightning.errors import RequestError
from danet_lightning.prepare.checksum import record, verify
from danet_lightning.prepare.storage import CHUNK, progress, require_space, writing

ATTEMPTS = 6  # in a row without a new byte, from one address
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between attempts; doubled after each
TIMEOUT = 60.0  # seconds in which a server has to say something
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be another one in a moment


class UnavailableError(RequestError):
    """An address does not serve the file; another one might."""


class CutError(OSError):
    """The server stopped before the end, or what it has is no longer the file we began."""


def fetch(urls: Sequence[str], target: Path, checksum: str | None) -> None:
    """Download a file, from the first address that serves it, and record its SHA-256 beside it.

    What was received stays in `<target>.part` and is gone on with by the next call.

    Raises:
        RequestError: No address serves the file, the disk is full or cannot be written.
    """
    refused = []
    for url in urls:
        try:
            _download(url, _beside(target, ".part"))
            _accept(target, checksum)
            return
        except UnavailableError as error:
            refused.append(f"  {url}: {error}")
    raise RequestError(
        "\n".join([f"{target.name} could not be downloaded:", *refused])
        + "\nWhat was received is kept: run the command again to go on. Or fetch the file yourself "
        f"and put it into {target.parent.absolute()}."
    )


def _accept(target: Path, checksum: str | None) -> None:
    """Give the received file its name, if it is the published one."""
    part = _beside(target, ".part")
    try:
        seen = verify(part, checksum)
    except RequestError as error:
        _discard(part)  # going on from it would never mend it
        raise UnavailableError(str(error)) from error
    with writing(target):
        record(target, seen)
        part.replace(target)
        _discard(part)


def _download(url: str, part: Path) -> None:
    """Complete `part`, over as many connections as it takes."""
    failures, furthest = 0, _size(part)
    while True:
        try:
            _transfer(url, part)
            return
        except HTTPError as error:
            reason, wait = f"{error.code} {error.reason}", error.headers.get("Retry-After", "")
            if error.code not in PASSING:
                raise UnavailableError(f"the server says {reason}") from error
        except (OSError, HTTPException) as error:
            reason, wait = _reason(error), ""
        if _size(part) > furthest:
            failures, furthest = 0, _size(part)
        failures += 1
        if failures == ATTEMPTS:
            raise UnavailableError(f"{reason}, {ATTEMPTS} times in a row")
        seconds = float(wait) if wait.isdecimal() else FIRST_WAIT * 2 ** (failures - 1)
        seconds = min(seconds, LONGEST_WAIT)
        print(f"{part.stem}: {reason}; again in {seconds:.0f} s", file=sys.stderr)
        time.sleep(seconds)


def _transfer(url: str, part: Path) -> None:
    """Ask for what is missing of `part`, and append it."""
    version = _version_of(part, url)
    start = _size(part) if version.validator else 0
    headers = {"User-Agent": "danet-lightning", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version.validator}
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
            _receive(response, url, part, start)
    except HTTPError as error:
        if error.code != 416 or not start:
            raise
        if start != version.length:  # else nothing is behind what we have because it is all there
            _discard(part)
            raise CutError("the file has changed") from error


def _receive(response: HTTPResponse, url: str, part: Path, start: int) -> None:
    if response.headers.get_content_type() == "text/html":
        raise UnavailableError("it answers with a web page instead of the file (a login?)")
    if response.status == 206:
        length = _check_rest(response.headers, url, part, start)
    else:  # the whole file, whatever was asked for
        start, length = 0, _number(response.headers.get("Content-Length", ""))
        with writing(part):
            part.write_bytes(b"")  # before the new tag: never old bytes under a new tag
            tag = f"{url}\n{_validator(response.headers)}\n{'' if length is None else length}"
            _beside(part, ".tag").write_text(tag)
    require_space(part.parent, (length or start) - start, part.stem)
    with part.open("ab") as file, progress(part.stem, length, start) as bar:
        while chunk := response.read(CHUNK):
            with writing(part):
                file.write(chunk)
            bar.update(len(chunk))
        with writing(part):
            file.flush()
            os.fsync(file.fileno())
    if length is not None and _size(part) != length:
        raise CutError(f"the connection broke off at {_size(part)} of {length} bytes")


def _check_rest(headers: Message, url: str, part: Path, start: int) -> int | None:
    """Return the whole file's length, if a partial answer goes on where `part` ends."""
    version = _version_of(part, url)
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    same = span and int(span[1]) == start and _number(span[2]) in (None, version.length)
    if not same or _validator(headers) not in ("", version.validator):
        _discard(part)
        raise CutError("the file has changed")
    return version.length


class Version(NamedTuple):
    """Which version of a file `part` is the beginning of."""

    validator: str = ""
    length: int | None = None


def _version_of(part: Path, url: str) -> Version:
    tag = _beside(part, ".tag")
    lines = tag.read_text().split("\n") if tag.is_file() else []
    return Version(lines[1], _number(lines[2])) if lines[:1] == [url] and lines[2:] else Version()


def _validator(headers: Message) -> str:
    """What tells this version of a file from others; a weak tag cannot, byte for byte."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _reason(error: Exception) -> str:
    if isinstance(error, CutError):
        return str(error)
    cause = error.reason if isinstance(error, URLError) else error
    return f"no connection ({cause or type(cause).__name__})"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _beside(part, ".tag").unlink(missing_ok=True)
