"""MMSegmentation's random change of brightness, contrast, saturation and hue.

H, W: height and width of the image.
"""

import os
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray

BRIGHTNESS = 32.0  # levels of 0..255, up or down
FACTORS = (0.5, 1.5)  # of contrast and of saturation
HUE = 18  # steps of OpenCV's circle of 180, two degrees each


class PhotometricDistortion(albumentations.ImageOnlyTransform):  # type: ignore[misc]  # is untyped
    """Change colors at random as MMSegmentation's `PhotoMetricDistortion` does by default.

    Each step happens with probability 1/2, on its own: brightness (-32..32 levels are added),
    contrast (all channels times 0.5..1.5), saturation (S of HSV times 0.5..1.5) and hue (turned
    by -36..34 degrees in steps of two). Contrast comes before or after the two steps in HSV, with
    probability 1/2 each. Every step clips to 0..255 and truncates to whole levels, as there.

    Args:
        p: Probability of distorting an image at all.
    """

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def get_params(self) -> dict[str, Any]:
        """Draw which steps happen (None: not this one) and how strong they are."""
        draw = self.py_random
        return {
            "brightness": draw.uniform(-BRIGHTNESS, BRIGHTNESS) if self._happens() else None,
            "contrast": draw.uniform(*FACTORS) if self._happens() else None,
            "contrast_first": self._happens(),
            "saturation": draw.uniform(*FACTORS) if self._happens() else None,
            # numpy's randint, which MMSegmentation calls, leaves the upper end out
            "hue": draw.randrange(-HUE, HUE) if self._happens() else None,
        }

    def apply(
        self,
        img: NDArray[Any],
        brightness: float | None,
        contrast: float | None,
        contrast_first: bool,
        saturation: float | None,
        hue: int | None,
        **params: Any,
    ) -> NDArray[Any]:
        """Distort an RGB image (H, W, 3) of bytes.

        Raises:
            ValueError: It is not one.
        """
        if img.dtype != np.uint8 or img.shape[2:] != (3,):
            raise ValueError(
                f"image of {img.dtype} {img.shape}: PhotometricDistortion is defined on uint8 "
                "(H, W, 3). Convert to RGB bytes first."
            )
        # Every step writes over this copy: fresh memory each time would take half as long again.
        img = img.copy()
        if brightness is not None:
            img = cv2.LUT(img, _levels(add=brightness), dst=img)
        if contrast is not None and contrast_first:
            img = cv2.LUT(img, _levels(times=contrast), dst=img)
        # Two round trips through HSV where one would do: each rounds, and MMSegmentation makes two.
        if saturation is not None:
            img = _in_hsv(img, 1, _levels(times=saturation))
        if hue is not None:
            img = _in_hsv(img, 0, ((np.arange(256) + hue) % 180).astype(np.uint8))
        if contrast is not None and not contrast_first:
            img = cv2.LUT(img, _levels(times=contrast), dst=img)
        return img

    def _happens(self) -> bool:
        return self.py_random.random() < 0.5  # type: ignore[no-any-return]


def _levels(times: float = 1.0, add: float = 0.0) -> NDArray[Any]:
    # float32 because MMSegmentation computes each pixel in it: the truncation then agrees too.
    levels: NDArray[Any] = np.arange(256, dtype=np.float32) * times + add
    return levels.clip(0, 255).astype(np.uint8)


def _in_hsv(img: NDArray[Any], channel: int, table: NDArray[Any]) -> NDArray[Any]:
    hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV, dst=img)
    changed = cv2.LUT(cv2.extractChannel(hsv, channel), table)
    hsv = cv2.insertChannel(changed, hsv, channel)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv))
