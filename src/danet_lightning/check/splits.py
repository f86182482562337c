"""The splits of a data set: what is counted in them, and what only whole ones show."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from danet_lightning.check.findings import Content, Finding, finding_of
from danet_lightning.data.base import DataSet, Source
from danet_lightning.data.files.black_and_white import BlackAndWhite


@dataclass(frozen=True)
class Pair:
    """One image with its label; several splits may hold it."""

    source: Source
    index: int
    splits: list[str]

    @property
    def image(self) -> str:
        """The image's file, or split and id where there are no files."""
        paths = self.source.paths(self.index)
        if paths:
            return str(paths[0])
        return f"{self.splits[0]}/{self.source.name(self.index)}"


@dataclass
class Tally:
    """What was counted in one split.

    Attributes:
        images: Number of pairs.
        published: The same, as published; None: not known.
        sizes: How many images have each (width, height).
        counts: (256,) pixels of each train id; 255 is ignored.
        unlabelled: The images whose masks are ignored entirely.
        black_and_white: Which masks hold 0 and 255 alone.
    """

    images: int
    published: int | None
    black_and_white: BlackAndWhite
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    unlabelled: int = 0


@dataclass
class Report:
    """All that the walk brought to light."""

    data: DataSet
    splits: dict[str, Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings that are more than warnings."""
        return [finding for finding in self.findings if not finding.is_warning]


def duplicate(
    pair: Pair, content: Content, originals: dict[bytes, dict[tuple[str, ...], str]]
) -> Iterator[Finding]:
    """Find an earlier image of another split that has the same pixels.

    Args:
        pair: The image.
        content: What it holds.
        originals: The images so far, by digest and splits; gets this one.
    """
    if not content.digest:
        return
    own, same = tuple(pair.splits), originals.setdefault(content.digest, {})
    for splits, image in same.items():
        # apart from a third split that contains both
        if set(own) - set(splits) and set(splits) - set(own) and image != pair.image:
            yield Finding(
                "duplicate",
                own,
                f"{pair.image} ({', '.join(own)}) has the same pixels as {image} "
                f"({', '.join(splits)}).",
                "Remove one of the two: what is trained on must not be measured on.",
                pair.source.name(pair.index),
                (pair.image, image) if pair.source.paths(pair.index) else (),
            )
            break
    same.setdefault(own, pair.image)


def shared(sources: dict[str, Source]) -> Iterator[Finding]:
    """Find the files that are trained on and measured on."""
    images = {
        split: {path for index in range(len(source)) for path in source.paths(index)[:1]}
        for split, source in sources.items()
    }
    for split in ("val", "test"):
        common = images.get("train", set()) & images.get(split, set())
        if common:
            yield Finding(
                "shared_files",
                ("train", split),
                f"train and {split} read {len(common)} images in common.",
                f"A score on {split} is then one on images trained on; choose another training "
                "split, unless only a benchmark's server is to tell the result.",
                files=tuple(str(image) for image in sorted(common)),
            )


def conclude(report: Report, split: str, tally: Tally) -> None:
    """Add the findings that only a whole split shows."""
    incomplete = any(split in each.splits for each in report.findings)

    def add(kind: str, message: str, remedy: str) -> None:
        report.findings.append(Finding(kind, (split,), message, remedy))

    if tally.images == 0 and not incomplete:
        remedy = "Put images into it or choose other splits."
        add("empty_split", f"The split '{split}' holds no images.", remedy)
    elif tally.published not in (None, tally.images):
        add(
            "count",
            f"{split} holds {tally.images} images, {tally.published} as published.",
            "A number measured on it compares with no other; complete the data set, unless you "
            "chose a part of it.",
        )
    if 1 < tally.unlabelled == tally.images:  # one finding says it, not one for each image
        single = ("all_ignored", (split,))
        report.findings = [each for each in report.findings if (each.kind, each.splits) != single]
        add(
            "all_ignored",
            f"{split}: all {tally.images} masks are ignored entirely.",
            "Nothing can be measured on it. Test labels that a benchmark's server keeps are "
            "published so.",
        )
    told = any(each.kind == "mask_0_255" and split in each.splits for each in report.findings)
    problem = None if told else tally.black_and_white.problem()
    if problem is not None:
        report.findings.append(finding_of(problem, "mask_0_255", split))
