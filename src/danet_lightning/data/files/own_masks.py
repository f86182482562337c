"""Bring together what a configuration says of a person's own masks."""

from collections.abc import Sequence
from typing import NamedTuple

from danet_lightning.data.base import IGNORE, voc_colors
from danet_lightning.data.files.legend import Color
from danet_lightning.errors import RequestError


class OwnMasks(NamedTuple):
    """How the ids and colors of masks become train ids, and how classes are drawn.

    Attributes:
        palette: One RGB color for each class.
        train_ids: The train id of every id that a mask may hold.
        color_ids: The train id of every color that a mask may hold; empty: no mask has colors.
    """

    palette: tuple[Color, ...]
    train_ids: dict[int, int]
    color_ids: dict[Color, int]


def own_masks(
    classes: Sequence[str],
    ids: Sequence[int] | None,
    colors: Sequence[Color] | None,
    ignore: int | Sequence[int] | Sequence[Color] | None,
) -> OwnMasks:
    """Number the classes by their ids and colors.

    Args:
        classes: Names of the classes.
        ids: The id of each class; None: 0, 1, 2 ...
        colors: The color of each class; None: masks hold ids, and the palette is VOC's.
        ignore: Ids or colors that are ignored. With `colors`, three numbers are a color.

    Raises:
        RequestError: Lengths differ, something occurs twice, or a class is ignored.
    """
    class_ids = tuple(range(len(classes)) if ids is None else ids)
    palette = voc_colors(len(classes)) if colors is None else tuple(colors)
    ignored_ids, ignored_colors = _ignored(ignore, colors is not None)
    for key, values, ignored in (
        ("ids", class_ids, ignored_ids),
        ("colors", palette, ignored_colors),
    ):
        _check(key, values, ignored, classes)
    named = palette if colors is not None else ()
    return OwnMasks(
        palette,
        {raw: train_id for train_id, raw in enumerate(class_ids)}
        | dict.fromkeys(ignored_ids, IGNORE),
        {color: train_id for train_id, color in enumerate(named)}
        | dict.fromkeys(ignored_colors, IGNORE),
    )


def _ignored(
    ignore: int | Sequence[int] | Sequence[Color] | None, has_colors: bool
) -> tuple[list[int], list[Color]]:
    """Sort what is ignored into ids and colors."""
    entries: list[int | Color] = [ignore] if isinstance(ignore, int) else [*(ignore or ())]
    ids = [entry for entry in entries if isinstance(entry, int)]
    colors = [entry for entry in entries if not isinstance(entry, int)]
    if not isinstance(ignore, int) and has_colors and len(ids) == 3:
        red, green, blue = ids
        return [], [(red, green, blue)]
    if colors and not has_colors:
        raise RequestError(
            f"dataset.ignore={_shown(ignore)} is of colors, and the masks hold ids as long as "
            "dataset.colors is not given. Give the colors of the classes, or ids to ignore."
        )
    return ids, colors


def _check(
    key: str, values: Sequence[object], ignored: Sequence[object], classes: Sequence[str]
) -> None:
    """Refuse ids or colors unless each class has one, which stands for nothing else."""
    if len(values) != len(classes):
        raise RequestError(
            f"dataset.{key}: {len(values)} entries for {len(classes)} classes. Give one for each "
            "class, in the order of dataset.classes."
        )
    for name, value in zip(classes, values, strict=True):
        if values.count(value) > 1:
            raise RequestError(
                f"dataset.{key}: {_shown(value)} occurs {values.count(value)} times, and every "
                "class needs one of its own. Change all of them but one."
            )
        if value in ignored:
            raise RequestError(
                f"dataset.ignore: {_shown(value)} is the class {name}. Take it out of "
                "dataset.ignore (null ignores nothing) or out of the classes."
            )


def _shown(value: object) -> str:
    """Write a value as one types it on a command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(_shown(part) for part in value)}]"
    return str(value)
