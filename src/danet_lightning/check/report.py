"""Write a report on a data set: as text for a person, as JSON for a program, as a picture."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danet_lightning.check.findings import ERRORS, WARNINGS
from danet_lightning.check.splits import Report, Tally
from danet_lightning.data.base import IGNORE
from danet_lightning.disk.writing import write_content
from danet_lightning.pictures.confusion import rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 20  # findings of a kind that are printed; the JSON has all


def write(report: Report, run_dir: Path) -> None:
    """Print the report, and leave check.json and classes.png in the run folder.

    Raises:
        RunError: The folder cannot be written.
    """
    splits = {split: _split_facts(tally, report) for split, tally in report.splits.items()}
    facts: dict[str, Any] = {
        "dataset": type(report.data).__name__,
        "label_source": report.data.label_source,
        "classes": list(report.data.classes),
        "errors": len(report.errors),
        "warnings": len(report.findings) - len(report.errors),
        "splits": splits,
        "findings": [
            {
                "severity": "warning" if finding.is_warning else "error",
                "kind": finding.kind,
                "splits": finding.splits,
                "image": finding.name or None,
                "files": finding.files,
                "message": finding.message,
                "remedy": finding.remedy,
            }
            for finding in report.findings
        ],
    }
    if splits:
        picture = _picture(report, splits)
        write_content(run_dir / "classes.png", picture)
    text = (json.dumps(facts, indent=1) + "\n").encode()
    write_content(run_dir / "check.json", text)
    lines = [*_split_lines(splits), *_class_lines(report, splits), *_finding_lines(report)]
    print(f"{facts['dataset']}: {facts['label_source']}", "", *lines, sep="\n")
    print(f"{_count(facts['errors'], 'error')}, {_count(facts['warnings'], 'warning')}")
    print(f"run folder  {run_dir}")


def _split_facts(tally: Tally, report: Report) -> dict[str, Any]:
    """Gather the numbers of one split."""
    pixels = int(tally.counts.sum())
    class_pixels = dict(zip(report.data.classes, tally.counts.tolist(), strict=False))
    labelled = sum(class_pixels.values())
    sizes = sorted(tally.sizes, key=lambda size: (size[0] * size[1], size))
    common = tally.sizes.most_common(1)
    return {
        "images": tally.images,
        "published": tally.published,
        "sizes": {  # width, height
            "smallest": list(sizes[0]) if sizes else None,
            "largest": list(sizes[-1]) if sizes else None,
            "most_common": list(common[0][0]) if common else None,
            "images_of_most_common": common[0][1] if common else 0,
            "distinct": len(sizes),
        },
        "pixels": pixels,
        "ignored_share": int(tally.counts[IGNORE]) / pixels if pixels else None,
        "class_pixels": class_pixels,
        "class_share": {  # of the labelled pixels
            name: count / labelled if labelled else None for name, count in class_pixels.items()
        },
        "unseen": [name for name, count in class_pixels.items() if not count],
    }


def _split_lines(splits: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Write one line for each split: its images, their sizes and pixels."""
    row = "{:<10}{:>8}{:>11}  {:>11}  {:>11}  {:>19}{:>16}{:>9}"
    titles = ("split", "images", "published", "smallest", "largest", "most common")
    if splits:
        yield row.format(*titles, "pixels", "ignored")
    for split, facts in splits.items():
        sizes = facts["sizes"]
        smallest, largest, common = (
            f"{sizes[key][0]} x {sizes[key][1]}" if sizes[key] else "-"
            for key in ("smallest", "largest", "most_common")
        )
        published = "-" if facts["published"] is None else facts["published"]
        ignored = "-" if facts["ignored_share"] is None else f"{facts['ignored_share']:.2%}"
        common += f" ({sizes['images_of_most_common']})"
        shown = (split, facts["images"], published, smallest, largest, common)
        yield row.format(*shown, f"{facts['pixels']:,}", ignored)


def _class_lines(report: Report, splits: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Write the share of each class in each split, and which classes a split lacks."""
    if not splits:
        return
    width = max(len(name) for name in ("labelled pixels, %", *report.data.classes))
    yield ""
    yield f"{'labelled pixels, %':<{width}}" + "".join(f"{split:>11}" for split in splits)
    for name in report.data.classes:
        shares = [facts["class_share"][name] for facts in splits.values()]
        cells = (f"{100 * share:>11.4f}" if share else f"{'unseen':>11}" for share in shares)
        yield f"{name:<{width}}" + "".join(cells)
    for split, facts in splits.items():
        if facts["unseen"]:
            yield f"unseen in {split}: {', '.join(facts['unseen'])}"


def _finding_lines(report: Report) -> Iterator[str]:
    """Write the findings by kind, errors first; each remedy once."""
    for kind, title in (ERRORS | WARNINGS).items():
        findings = [finding for finding in report.findings if finding.kind == kind]
        if not findings:
            continue
        yield ""
        yield f"{'warning' if kind in WARNINGS else 'ERROR'}: {title} ({len(findings)}) [{kind}]"
        remedy = ""
        for finding in findings[:SHOWN]:
            if finding.remedy != remedy:
                remedy = finding.remedy
                yield f"  {remedy}"
            yield "  - " + finding.message.replace("\n", "\n    ")
        if len(findings) > SHOWN:
            yield f"  - and {len(findings) - SHOWN} more, see check.json"
    yield ""


def _picture(report: Report, splits: dict[str, dict[str, Any]]) -> bytes:
    """Draw one panel for each split, one bar for each class in its color, as a PNG."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    names = [name.replace("$", r"\$") for name in report.data.classes]  # no formula is meant
    colors = [tuple(value / 255 for value in color) for color in report.data.palette]
    size = (2.5 + 3.5 * len(splits), 1.2 + 0.22 * len(names))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    shares = [[share or 0 for share in facts["class_share"].values()] for facts in splits.values()]
    least = min((share for row in shares for share in row if share), default=1e-3)
    panels: list[Axes] = list(figure.subplots(1, len(splits), sharey=True, squeeze=False)[0])
    for axes, split, row in zip(panels, splits, shares, strict=True):
        axes.barh(range(len(names)), row, color=colors, edgecolor="0.3", linewidth=0.6)
        axes.set_xscale("log" if any(row) else "linear")
        axes.set_xlim(least / 3, 3)  # a number is beside the longest bar, too
        axes.set_xlabel("share of the labelled pixels")
        axes.set_title(f"{split}, {_count(splits[split]['images'], 'image')}", fontsize="medium")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        for place, share in enumerate(row):
            text = f"{100 * share:.3g}%" if share else "unseen"
            beside = 1.15 * share if share else least / 2.5
            axes.text(beside, place, text, va="center", fontsize="small", color="0.25")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)  # the first class above
    return rendered(figure, "png")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
