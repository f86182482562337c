"""What the masks of a person's own data set hold: the id and the color of each class."""

from collections.abc import Sequence
from dataclasses import dataclass

from danet_lightning.data.files.layout import voc_colors
from danet_lightning.errors import RequestError

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Legend:
    """How the ids and colors of masks become train ids.

    Attributes:
        palette: One RGB color for each class.
        train_ids: The train id of every id that a mask may hold; 255 is ignored.
        color_ids: The train id of every color that a mask may hold; empty: no mask has colors.
    """

    palette: tuple[Color, ...]
    train_ids: dict[int, int]
    color_ids: dict[Color, int]


def legend(
    classes: Sequence[str],
    ids: Sequence[int] | None,
    colors: Sequence[Color] | None,
    ignore: int | Sequence[int] | Sequence[Color] | None,
) -> Legend:
    """Bring together what a configuration says of the masks.

    Args:
        classes: Names of the classes.
        ids: The id of each class; None: 0, 1, 2 ...
        colors: The color of each class; None: masks hold ids, and the palette is VOC's.
        ignore: Ids or colors that are ignored. With `colors`, three numbers are a color.

    Raises:
        RequestError: Lengths differ, something occurs twice, or a class is ignored.
    """
    own_ids = tuple(range(len(classes)) if ids is None else ids)
    palette = voc_colors(len(classes)) if colors is None else colors
    own_colors = tuple(_color(color) for color in palette)
    for key, values in (("ids", own_ids), ("colors", own_colors)):
        _check_one_each(key, values, len(classes))
    ignored_ids, ignored_colors = _ignored(ignore, colors is not None)
    _check_not_ignored(classes, own_ids, ignored_ids)
    _check_not_ignored(classes, own_colors, ignored_colors)
    train_ids = {raw: train_id for train_id, raw in enumerate(own_ids)}
    train_ids |= dict.fromkeys(ignored_ids, 255)
    named = own_colors if colors is not None else ()
    color_ids = {color: train_id for train_id, color in enumerate(named)}
    color_ids |= dict.fromkeys(ignored_colors, 255)
    return Legend(own_colors, train_ids, color_ids)


def _color(values: Sequence[int]) -> Color:
    red, green, blue = values
    return red, green, blue


def _check_one_each(key: str, values: Sequence[object], count: int) -> None:
    if len(values) != count:
        raise RequestError(
            f"dataset.{key}: {len(values)} entries for {count} classes. Give one for each class, "
            "in the order of dataset.classes."
        )
    for value in values:
        if values.count(value) > 1:
            raise RequestError(
                f"dataset.{key}: {_shown(value)} occurs {values.count(value)} times, and every "
                "class needs one of its own. Change all of them but one."
            )


def _ignored(
    ignore: int | Sequence[int] | Sequence[Color] | None, has_colors: bool
) -> tuple[list[int], list[Color]]:
    match ignore:
        case None:
            return [], []
        case int():
            return [ignore], []
        case [int(), int(), int()] if has_colors:
            return [], [_color(ignore)]
        case [int(), *_]:
            return list(ignore), []  # type: ignore[arg-type]
    if ignore and not has_colors:
        raise RequestError(
            f"dataset.ignore={_shown(ignore)} is of colors, and the masks hold ids as long as "
            "dataset.colors is not given. Give the colors of the classes, or ids to ignore."
        )
    return [], [_color(color) for color in ignore]  # type: ignore[arg-type]


def _check_not_ignored(
    classes: Sequence[str], own: Sequence[object], ignored: Sequence[object]
) -> None:
    for name, value in zip(classes, own, strict=True):
        if value in ignored:
            raise RequestError(
                f"dataset.ignore: {_shown(value)} is the class {name}. Take it out of "
                "dataset.ignore (null ignores nothing) or out of the classes."
            )


def _shown(value: object) -> str:
    """A value as one writes it on a command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(_shown(part) for part in value)}]"
    return str(value)
