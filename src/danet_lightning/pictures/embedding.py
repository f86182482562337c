"""Pictures that are a part of a page."""

import base64
import io
from typing import Any, Literal

from PIL import Image


def embedded(picture: Image.Image, kind: Literal["PNG", "JPEG"], **options: Any) -> str:
    """Return the address of an image that holds a picture: PNG for colors that mean something, JPEG
    for photos.
    """
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
