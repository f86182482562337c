"""The pictures of a report: one legend for all, and each drawn as all other pictures are."""

import base64
import io

import numpy as np
from PIL import Image

from danet_lightning.report.predictions import Gallery, Predicted, Shown

PALETTE = ((107, 142, 35), (220, 20, 60), (0, 0, 0), (255, 255, 255))
CLASSES = ["vegetation", "person", "night", "snow"]


def one(index: int) -> np.ndarray:
    return np.full((120, 240), index, np.uint8)


def test_classes_have_their_number_in_every_picture_or_in_none() -> None:
    """Vegetation in one image looks like the person that is predicted in another."""
    photo = np.full((120, 240, 3), 9, np.uint8)
    label = one(2)
    label[:60] = 255
    images = [Shown("a", photo, one(0)), Shown("b", photo, label)]
    images[1].predicted.append(Predicted("group", one(1), 1.0))
    shown = Gallery(images, CLASSES, PALETTE)
    assert shown.legend() == [
        ("0 vegetation", "#6b8e23"), ("1 person", "#dc143c"), ("night", "#000000"),
        ("ignored", None),
    ]  # fmt: skip
    drawn = [shown.pictures(images[0])["label"], shown.pictures(*images[1:], *images[1].predicted)]
    for address in (drawn[0], drawn[1]["prediction"], drawn[1]["label"]):
        content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(content)) as picture:
            pixels = np.asarray(picture)
        assert pixels.shape == (240, 480, 3)
        has_number = (pixels == 255).all(-1).any()
        assert has_number == (address != drawn[1]["label"])
    assert set(np.unique(pixels[:120])) == {90, 200}  # hatched
    assert not pixels[121:].any()  # black, as the class is
