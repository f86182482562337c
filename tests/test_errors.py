"""The annotation of an argument is its rule, with the same words in Python and in YAML."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field, PositiveInt
from torch import nn

from danet_lightning.errors import RequestError, argument_problems, checked


class Made:
    @checked
    def __init__(
        self,
        size: tuple[PositiveInt, PositiveInt],
        net: nn.Module | None = None,
        mode: Literal["whole", "slide"] = "whole",
        place: Path | None = None,
        share: Annotated[float, Field(ge=0, le=1)] = 0.5,
        *,
        names: dict[int, str] | None = None,
    ) -> None:
        self.size, self.net, self.mode, self.place = size, net, mode, place
        self.share, self.names = share, names


def test_right_arguments_become_what_is_annotated() -> None:
    net = nn.Identity()
    made = Made([1, 2], net, place="a b", share=1, names={3: "c"})
    assert (made.size, made.net, made.place) == ((1, 2), net, Path("a b"))
    assert (type(made.share), made.names) == (float, {3: "c"})
    assert Made((np.int64(1), 2)).size == (1, 2)


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ({"size": [0, 2]}, {"size": "[0, 2]: entry 0 must be greater than 0"}),
        ({"size": [1]}, {"size": "[1]: entry 1 is missing"}),
        ({"size": [0]}, {"size": "[0]: entry 0 must be greater than 0; entry 1 is missing"}),
        ({"place": ""}, {"place": '"": is empty, which would be the working folder; give a path'}),
        ({"mode": "slid"}, {"mode": "\"slid\": must be 'whole' or 'slide'"}),
        ({"share": True}, {"share": "true: must be a valid number"}),
        ({"share": "0.5"}, {"share": '"0.5": must be a valid number'}),
        ({"share": float("nan")}, {"share": "NaN: must be a finite number"}),
        ({"net": 3}, {"net": "3: must be built by a _target_ that makes a Module"}),
        ({"net": Made([1, 1])}, {"net": "a Made: must be built by a _target_ that makes a Module"}),
        (
            {"size": [1, True], "share": 2, "mode": "whole"},
            {
                "size": "[1, true]: entry 1 must be a valid integer",
                "share": "2: must be less than or equal to 1",
            },
        ),
    ],
    ids=lambda value: " ".join(f"{key}={type(part).__name__}" for key, part in value.items()),
)
def test_all_wrong_arguments_are_named_in_the_same_words(
    values: dict[str, Any], rules: dict[str, str]
) -> None:
    assert argument_problems(Made, values) == rules  # as a configuration is checked
    with pytest.raises(RequestError) as raised:
        Made(**{"size": [1, 1], **values})
    expected = [f"Made({name}=): {rule}" for name, rule in rules.items()]
    assert str(raised.value).splitlines() == expected


def test_an_unknown_argument_is_answered_with_the_nearest() -> None:
    text = argument_problems(Made, {"shar": 1})["shar"]
    assert text.startswith("unknown key; did you mean share? Known: size, net")
    with pytest.raises(TypeError, match="unexpected keyword argument 'shar'"):
        Made([1, 1], shar=1)  # type: ignore[call-arg]
