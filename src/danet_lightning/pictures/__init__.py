"""What a person looks at: masks, predictions and curves."""

from typing import Annotated

from pydantic import Field

Opacity = Annotated[float, Field(ge=0, le=1)]  # of the classes over an image
