"""The images that annotations belong to: found below one folder, wherever a tool has put them."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from danet_lightning.data.files.images import SUFFIXES
from danet_lightning.disk.names import composed, files_below, printable
from danet_lightning.errors import RequestError


class ImagesBelow:
    """The images below a folder, apart from those in folders of masks.

    Args:
        root: The folder.
        masks: The name of such a folder.
    """

    def __init__(self, root: Path, masks: str) -> None:
        self.root = root
        names = (PurePosixPath(name) for name in files_below(root, lambda error: None))
        self.names = [
            name for name in names if name.suffix.lower() in SUFFIXES and masks not in name.parts
        ]
        self._by_path = {composed(str(name)): name for name in self.names}
        self._by_name: dict[str, list[PurePosixPath]] = {}
        for name in self.names:
            self._by_name.setdefault(composed(name.name), []).append(name)

    def find(self, named: str, beside: Path) -> Path | None:
        """Return the image that a label file names, or None.

        Args:
            named: Its path as written, of any system.
            beside: The folder of the label file, from which the path may start.

        Raises:
            RequestError: Images of this name lie in several folders, and none where it should.
        """
        path = composed(named.replace("\\", "/"))
        starts = [os.path.relpath(beside, self.root), "."]
        for start in starts:
            place = os.path.normpath(PurePosixPath(start, path))
            if place in self._by_path:
                return self.root / self._by_path[place]
        same_name = self._by_name.get(PurePosixPath(path).name, [])
        ends = [name for name in same_name if str(name).endswith(path)] or same_name
        return self.only(named, ends)

    def only(self, named: str, images: Sequence[PurePosixPath]) -> Path | None:
        """Return the only one of the images that a name may mean, or None where there is none.

        Raises:
            RequestError: There are several.
        """
        if len(images) > 1:
            raise RequestError(
                f"{printable(named)} may be {_listed(sorted(images))}: give a label file that "
                "names their folders, or prepare each folder by itself."
            )
        return self.root / images[0] if images else None


def _listed(names: Sequence[PurePosixPath]) -> str:
    return " or ".join(map(str, names[:3])) + (" or others" if len(names) > 3 else "")
