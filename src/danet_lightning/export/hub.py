"""A folder for the Hugging Face hub: weights without pickle, their facts, a model card."""

import json
from collections.abc import Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from danet_lightning.checkpoints.hub_folder import CONFIG, WEIGHTS
from danet_lightning.disk.writing import write_new
from danet_lightning.errors import RequestError
from danet_lightning.export.images import Images, measured
from danet_lightning.export.model_card import PICTURES, model_card
from danet_lightning.models.segmenter import Segmenter
from danet_lightning.pictures.panels import contact_sheet, strip

SHOWN = 4  # pictures on the card


def write(
    folder: Path, segmenter: Segmenter, facts: Mapping[str, Any], images: Images | None
) -> None:
    """Write the folder: what `load` needs, and what people want to know.

    Args:
        folder: A new one.
        segmenter: What is shipped.
        facts: What it says of itself, see `checkpoints.metadata.portable`.
        images: To measure and to show it on.

    Raises:
        RequestError: The network's state is more than tensors.
    """
    from safetensors.torch import save

    state = segmenter.net.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise RequestError(
            f"ckpt_path: {', '.join(others)} of its network is no tensor, and safetensors holds "
            "tensors alone. Keep it in buffers."
        )
    # copies: a file has no layout channels_last, and two names of one tensor are two tensors
    weights = save({name: tensor.clone().contiguous() for name, tensor in state.items()})
    report = measured({"": segmenter}, images) if images else None
    config = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    files = {WEIGHTS: weights, CONFIG: config.encode()}
    parameters = sum(each.numel() for each in segmenter.net.parameters())
    files["README.md"] = model_card(facts, report, parameters).encode()
    if images:
        picture = BytesIO()
        _pictures(segmenter, images).save(picture, "PNG")
        files[PICTURES] = picture.getvalue()
    write_new({folder / name: content for name, content in files.items()})
    print(f"written     {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if report:
        scores = report["networks"][""]
        print(f"mIoU        {scores['miou']:.4f} on {report['images']} images of {report['split']}")
    print("before you upload it: fill in the license in README.md")


def _pictures(segmenter: Segmenter, images: Images) -> Image.Image:
    panels = []
    for sample in islice(images, SHOWN):
        image = sample["image"].numpy().transpose(1, 2, 0)  # (H, W, 3)
        prediction = segmenter.segment(image).numpy()
        label = sample["mask"].numpy()
        panels.append(strip(image, label, prediction, segmenter.palette, segmenter.classes))
    return contact_sheet(panels, f"{len(panels)} images: image, label, prediction, errors")
