"""The README.md of a hub folder: what the network is, how well it does, how to load it."""

import re
from collections.abc import Mapping
from typing import Any

PICTURES = "predictions.png"
CARD = """\
---
license: unknown # fill in: the license of these weights, which depends on the data as well
library_name: danet-lightning
pipeline_tag: image-segmentation
tags:
- semantic-segmentation
- {dataset_tag}
---

# {network} on {dataset}

A network for semantic segmentation with {parameters:.1f} million parameters, trained with
danet_lightning on {dataset}. It tells {count} classes apart: {classes}.

## How to load it

```python
from danet_lightning import load  # pip install 'danet-lightning[hub]'

segmenter = load("hf://user/name")  # or this folder
ids = segmenter.segment(image)  # (H, W, 3) uint8 RGB -> (H, W) class ids
names, colors = segmenter.classes, segmenter.palette
```

## Result

{result}

## Data

{data}

## License

Fill in the license of these weights here and in the first lines of this file.

## Origin

Commit of the code: {commit}. Versions: {versions}. Everything that the network needs is in
`config.json` and `model.safetensors`; nothing in this folder is pickled.
"""


def model_card(facts: Mapping[str, Any], report: Mapping[str, Any] | None, parameters: int) -> str:
    """Write the card.

    Args:
        facts: Of the network, see `checkpoints.metadata.portable`.
        report: What was measured, see `export.images.measured`; None: nothing.
        parameters: How many the network has, without what it only keeps, such as means.
    """
    config = facts["config"]
    dataset = _last(config["dataset"]["_target_"])
    versions = facts.get("versions", {})
    return CARD.format(
        network=_last(config["model"]["_target_"]),
        dataset=dataset,
        dataset_tag=re.sub(r"\W", "", dataset.lower()),
        parameters=parameters / 1e6,
        count=len(facts["classes"]),
        classes=", ".join(map(_plain, facts["classes"])),
        result=_result(report),
        data=_data(report, dataset),
        commit=_plain(facts.get("git_commit") or "not known"),
        versions=_plain(", ".join(map(" ".join, versions.items())) or "not known"),
    )


def _result(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "Not measured when this folder was written (`limit=0`)."
    scores = report["networks"][""]
    protocol = ", ".join(
        f"{key} {value}" for key, value in report["protocol"].items() if value is not None
    ).removeprefix("name ")
    rows = [
        ("mIoU", "miou"), ("pixel accuracy", "pixel_accuracy"), ("mean accuracy", "mean_accuracy")
    ]  # fmt: skip
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {scores[key]:.4f} |" for name, key in rows)]
    lines += [
        f"| images | {report['images']} of {report['images_of_split']} of {report['split']} |",
        f"| protocol | {_plain(protocol)} |",
    ]
    return "\n".join([*lines, "", f"![image, label, prediction]({PICTURES})"])


def _data(report: Mapping[str, Any] | None, dataset: str) -> str:
    if report is None:
        return f"{dataset}."
    return f"{dataset}; labels: {_plain(report['label_source'])}."


def _last(target: str) -> str:
    return _plain(target.rpartition(".")[2])


def _plain(text: Any) -> str:
    """Return a text without what Markdown, HTML or a terminal would take for their own."""
    shown = (sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in str(text))
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#&" else sign for sign in "".join(shown))
