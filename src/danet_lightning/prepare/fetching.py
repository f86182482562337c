"""Fetch a file over HTTP: continued after a cut, verified, and under its name only when whole."""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from danet_lightning.disk.space import require_space
from danet_lightning.errors import RequestError
from danet_lightning.prepare.storage import CHUNK, REMEDY, byte_bar, writing

ATTEMPTS = 6  # in a row without a new byte, from one address
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between attempts; doubled after each
TIMEOUT = 60.0  # seconds in which a server has to say something
PASSING_STATUSES = {408, 425, 429, 500, 502, 503, 504}  # may be another one in a moment


class UnavailableError(RequestError):
    """An address does not serve the file; another one might."""


class CutError(OSError):
    """The server stopped before the end, or replaced the file since its beginning was fetched."""


def fetch(urls: Sequence[str], target: Path, checksum: str | None) -> None:
    """Download a file from the first address that serves it, and record its SHA-256 beside it.

    What was received stays in `<target>.part`, and the next call goes on from there.

    Raises:
        RequestError: No address serves the file, or it does not fit on the disk or cannot be
            written there.
        RunError: The disk is full.
    """
    part = target.with_name(f"{target.name}.part")
    problems = []
    for url in urls:
        try:
            _download(url, part)
            _accept(part, target, checksum)
            return
        except UnavailableError as error:
            problems.append(f"  {url}: {error}")
    raise RequestError(
        "\n".join([f"{target.name} could not be downloaded:", *problems])
        + "\nWhat was received is kept: run the command again to go on. Or fetch the file yourself "
        f"and put it into {target.parent.absolute()}."
    )


def verify(path: Path, checksum: str | None) -> None:
    """Compare a file with its published checksum, or else with the one recorded at its download.

    Raises:
        RequestError: It is another file.
    """
    record = _record(path)
    if checksum is None and record.is_file():
        checksum = f"sha256:{record.read_text().split()[0]}"
    if checksum is None:
        return
    algorithm, _, published = checksum.partition(":")
    digest = _digest(path, algorithm)
    if digest != published:
        raise RequestError(
            f"{path.absolute()} has the {algorithm} {digest}, and the published file has "
            f"{published}: it is damaged, or another release. Remove it and fetch it again."
        )


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file, byte_bar(f"checking {path.name}", path.stat().st_size) as bar:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _accept(part: Path, target: Path, checksum: str | None) -> None:
    """Give a complete download its name, if it is the published file, or else discard it."""
    try:
        verify(part, checksum)
    except RequestError as error:
        _discard(part)  # going on from it would never mend it
        raise UnavailableError(str(error)) from error
    digest = _digest(part, "sha256")
    with writing(target):
        _record(target).write_text(f"{digest}  {target.name}\n")
        part.replace(target)
        _discard(part)


def _download(url: str, part: Path) -> None:
    """Complete `part`, over as many connections as it takes."""
    failures, largest = 0, _size(part)
    while True:
        wait = ""
        try:
            _transfer(url, part)
            return
        except HTTPError as error:
            reason, wait = f"{error.code} {error.reason}", error.headers.get("Retry-After", "")
            if error.code not in PASSING_STATUSES:
                raise UnavailableError(f"the server says {reason}") from error
        except CutError as error:
            reason = str(error)
        except (OSError, HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            reason = f"no connection ({cause or type(cause).__name__})"
        failures = 1 if _size(part) > largest else failures + 1
        largest = max(largest, _size(part))
        if failures == ATTEMPTS:
            raise UnavailableError(f"{reason}, {ATTEMPTS} times in a row")
        seconds = float(wait) if wait.isdecimal() else FIRST_WAIT * 2 ** (failures - 1)
        seconds = min(seconds, LONGEST_WAIT)
        print(f"{part.stem}: {reason}; again in {seconds:.0f} s", file=sys.stderr)
        time.sleep(seconds)


def _transfer(url: str, part: Path) -> None:
    """Ask for what is missing of `part`, and append it."""
    version, length = _version(part, url)
    start = _size(part) if version else 0
    headers = {"User-Agent": "danet-lightning", "Accept-Encoding": "identity"}
    if start:  # the rest of the same version, or else the whole of another
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416 or not start:
            raise
        if start == length:  # nothing follows because everything is there
            return
        _discard(part)
        raise CutError("the file has changed") from error
    with response:
        if response.headers.get_content_type() == "text/html":
            raise UnavailableError("it answers with a web page instead of the file (a login?)")
        validator = _validator(response.headers)
        if response.status == 206:
            span = re.fullmatch(
                r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or ""
            )
            is_rest = span and int(span[1]) == start and span[2] in ("*", str(length))
            if not is_rest or validator not in ("", version):
                _discard(part)
                raise CutError("the file has changed")
        else:
            stated = response.headers.get("Content-Length", "")
            start, length = 0, int(stated) if stated.isdecimal() else None
            with writing(part):
                part.write_bytes(b"")  # first, so that no old bytes are taken for the new version's
                _tag(part).write_text(json.dumps([url, validator, length]))
        _append(response, part, start, length)


def _append(response: HTTPResponse, part: Path, start: int, length: int | None) -> None:
    """Write what a server sends to the end of `part`, until it is `length` bytes long."""
    require_space(part.parent, (length or start) - start, part.stem, REMEDY)
    with part.open("ab") as file, byte_bar(part.stem, length, start) as bar:
        while chunk := response.read(CHUNK):
            with writing(part):
                file.write(chunk)
            bar.update(len(chunk))
        with writing(part):
            file.flush()
            os.fsync(file.fileno())
    if length is not None and _size(part) != length:
        raise CutError(f"the connection broke off at {_size(part)} of {length} bytes")


def _version(part: Path, url: str) -> tuple[str, int | None]:
    """Return the validator and length of the file that `part` begins; empty if from elsewhere."""
    try:
        origin, validator, length = json.loads(_tag(part).read_text())
    except (FileNotFoundError, ValueError):
        return "", None
    return (validator, length) if origin == url else ("", None)


def _validator(headers: Message) -> str:
    """Return what tells versions of a file apart; a weak tag cannot, byte for byte."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _record(path: Path) -> Path:
    """Return the file beside a download that holds its SHA-256, as `sha256sum -c` reads it."""
    return path.with_name(f"{path.name}.sha256")


def _tag(part: Path) -> Path:
    """Return the file beside `part` that says where it comes from, and its version."""
    return part.with_name(f"{part.name}.tag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)
