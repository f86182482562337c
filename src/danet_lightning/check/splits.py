"""Keep what is counted in the splits of a data set, and find what only whole splits show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from danet_lightning.check.findings import Finding, finding_of
from danet_lightning.data.base import DataSet, Source
from danet_lightning.data.files.black_and_white import BlackAndWhite

Originals = dict[bytes, dict[tuple[str, ...], str]]  # images by their pixels and splits


@dataclass(frozen=True)
class Pair:
    """One image with its label; several splits may hold it."""

    source: Source
    index: int
    splits: list[str]

    @property
    def image(self) -> str:
        """Return the image's file, or split and id where there are no files."""
        paths = self.source.paths(self.index)
        return str(paths[0]) if paths else f"{self.splits[0]}/{self.source.name(self.index)}"


@dataclass
class Tally:
    """What was counted in one split.

    Attributes:
        images: Number of pairs.
        published: The same, as published; None: not known.
        black_and_white: Which masks hold 0 and 255 alone.
        sizes: How many images have each (width, height).
        counts: (256,) pixels of each train id; 255 is ignored.
        unlabelled: The images whose masks are ignored entirely.
    """

    images: int
    published: int | None
    black_and_white: BlackAndWhite
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    unlabelled: int = 0


@dataclass
class Report:
    """What was counted in each split, and every finding."""

    data: DataSet
    splits: dict[str, Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """Return the findings that are more than warnings."""
        return [finding for finding in self.findings if not finding.is_warning]

    def find_duplicate(self, pair: Pair, digest: bytes, originals: Originals) -> None:
        """Add a finding if an earlier image of another split has the same pixels.

        Args:
            pair: The image.
            digest: Of its pixels; empty if it cannot be read.
            originals: The images so far; gets this one.
        """
        if not digest:
            return
        splits, same = tuple(pair.splits), originals.setdefault(digest, {})
        for others, image in same.items():
            # apart from a third split that contains both
            if {*splits} - {*others} and {*others} - {*splits} and image != pair.image:
                finding = Finding(
                    "duplicate",
                    splits,
                    f"{pair.image} ({', '.join(splits)}) has the same pixels as {image} "
                    f"({', '.join(others)}).",
                    "Remove one of the two: what is trained on must not be measured on.",
                    pair.source.name(pair.index),
                    (pair.image, image) if pair.source.paths(pair.index) else (),
                )
                self.findings.append(finding)
                break
        same.setdefault(splits, pair.image)

    def find_shared(self, pairs: Sequence[Pair]) -> None:
        """Add a finding for the images that are trained on and measured on."""
        images = {
            split: {pair.image for pair in pairs if split in pair.splits}
            for split in ("train", "val", "test")
        }
        for split in ("val", "test"):
            common = sorted(images["train"] & images[split])
            if common:
                message = f"train and {split} read {len(common)} images in common."
                remedy = (
                    f"A score on {split} is then one on images trained on; choose another training "
                    "split, unless only a benchmark's server is to tell the result."
                )
                splits = ("train", split)
                finding = Finding("shared_files", splits, message, remedy, files=tuple(common))
                self.findings.append(finding)

    def conclude(self, split: str) -> None:
        """Add the findings that only a whole split shows."""
        tally = self.splits[split]
        kinds = [finding.kind for finding in self.findings if split in finding.splits]

        def add(kind: str, message: str, remedy: str) -> None:
            self.findings.append(Finding(kind, (split,), message, remedy))

        if tally.images == 0 and not kinds:
            remedy = "Put images into it or choose other splits."
            add("empty_split", f"The split '{split}' holds no images.", remedy)
        elif tally.published not in (None, tally.images):
            add(
                "count",
                f"{split} holds {tally.images} images, {tally.published} as published.",
                "A number measured on it compares with no other; complete the data set, unless "
                "you chose a part of it.",
            )
        if 1 < tally.unlabelled == tally.images:  # one finding says it, not one for each image
            single = ("all_ignored", (split,))
            self.findings = [it for it in self.findings if (it.kind, it.splits) != single]
            add(
                "all_ignored",
                f"{split}: all {tally.images} masks are ignored entirely.",
                "Nothing can be measured on it. Test labels that a benchmark's server keeps are "
                "published so.",
            )
        problem = tally.black_and_white.problem()
        if problem is not None and "mask_0_255" not in kinds:
            self.findings.append(finding_of(problem, "mask_0_255", split))
