"""What the release of a data set consists of, as plain data that `prepare` works through."""

from typing import NamedTuple


class Archive(NamedTuple):
    """One file of a release.

    Attributes:
        name: The published file name. Its suffix tells the format: .zip, .tar, .tar.gz or .tgz;
            any other file is used as it is.
        entries: The folders and files of it that are used, by their places below the root. The
            archive may hold them inside further folders.
        urls: Where it can be fetched, tried in this order; none: only a person may.
        checksum: Of the published file: "md5:...", "sha1:..." or "sha256:...". None: not known.
        page: Where a person gets it, if no URL serves.
        option: The argument of the data set that names the folder the entries are in.
    """

    name: str
    entries: tuple[str, ...]
    urls: tuple[str, ...] = ()
    checksum: str | None = None
    page: str = ""
    option: str = "root"
