"""What is wrong with a composed config: with its form, its nodes, and what they say together."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import AfterValidator

from danet_lightning.config.commands import (
    CommandConfig,
    ExportConfig,
    ImagesConfig,
    Nodes,
    PrepareConfig,
    Recipe,
    ReportConfig,
    TrainConfig,
)
from danet_lightning.config.outputs import new_folder, new_onnx
from danet_lightning.config.ranges import STATED, Node
from danet_lightning.config.validation import find_target, node_problems
from danet_lightning.errors import Mark, argument_types, mentions, problem, unknown_key


def text_keys(form: type[CommandConfig]) -> set[str]:
    """Return the keys at the top level of a command that take any text, such as paths."""
    return {key for key, hint in get_type_hints(form).items() if mentions(hint, str, Path)}


def open_keys(form: type[CommandConfig]) -> set[str]:
    """Return the nodes of a command that take any key: another node may be their base."""
    hints = get_type_hints(form, include_extras=True)
    return {key for key, hint in hints.items() if hint == dict[str, Any]}


def marked(config: Mapping[str, Any], form: type[CommandConfig], *marks: Mark) -> set[str]:
    """Return the dotted keys of a plain config whose annotations carry one of such marks."""
    nodes = [("", config, get_type_hints(form, include_extras=True))]
    keys = set()
    for above, node, types in nodes:  # which grows
        keys |= {f"{above}{name}" for name, hint in types.items() if mentions(hint, *marks)}
        for name, child in node.items():
            if isinstance(child, Mapping):
                target = child.get("_target_")
                inner = argument_types(find_target(target))[0] if target else {}
                if not above and name in STATED:
                    inner |= get_type_hints(STATED[name], include_extras=True)
                nodes.append((f"{above}{name}.", child, inner))
    return keys


def problems(config: Mapping[str, Any], form: type[CommandConfig]) -> dict[str, str]:
    """Return everything that is wrong with a resolved, plain config, by dotted key."""
    hints = get_type_hints(form, include_extras=True)
    wrong = {key: unknown_key(key, hints) for key in config if key not in hints}
    for field in fields(form):
        if field.name in config:
            wrong |= _against_hint(field.name, hints[field.name], config[field.name])
        elif field.default is MISSING:
            wrong[field.name] = "is missing"
    stated = dict(_against_ranges(config))
    # what a command passes over it need not import, either
    used = {key: value for key, value in config.items() if hints.get(key) != Recipe}
    wrong |= {key: text for key, text in node_problems(used).items() if key not in stated}
    wrong |= {key: text for key, text in stated.items() if text}
    return wrong | {key: text for key, text in _rules(config, form) if text and key not in wrong}


def _against_hint(key: str, hint: Any, value: Any) -> dict[str, str]:
    parts = {key: (hint, value)}
    if Nodes in (hint, *get_args(hint)) and isinstance(value, Mapping):
        parts = {f"{key}.{name}": (Node, node) for name, node in value.items()}
    texts = {name: _wrong(kind, part) for name, (kind, part) in parts.items()}
    return {name: text for name, text in texts.items() if text}


def _wrong(annotation: Any, value: Any) -> str:
    return "" if value == "???" else problem(annotation, value)  # what is missing is told apart


def _against_ranges(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell what is wrong with each value that has a range; empty when nothing is."""
    for node, ranges in STATED.items():
        values = config.get(node)
        for name, hint in get_type_hints(ranges, include_extras=True).items():
            if isinstance(values, Mapping) and name in values:
                yield f"{node}.{name}", _wrong(hint, values[name])


def _rules(config: Mapping[str, Any], form: type[CommandConfig]) -> Iterator[tuple[str, str]]:
    """Find by key what breaks the rules of a command that no single annotation can state."""
    dataset, trainer = config.get("dataset"), config.get("trainer")
    if form is PrepareConfig and (config.get("labels") is None) == (not dataset):
        yield "dataset", "give the one to fetch (dataset=camvid), or labels=..., your own export"
    if issubclass(form, ImagesConfig) and bool(config.get("input")) == bool(dataset):
        yield "input", "give either your images or dataset=... split=..., those of a data set"
    if form is ReportConfig and bool(config.get("runs")) == bool(config.get("wandb")):
        yield "runs", "give either folders of runs or sweeps, or wandb=entity/project"
    if form is ExportConfig and config.get("format") == "hub" and config.get("int8"):
        yield "int8", "true: a hub folder has the weights as they are; int8 is of format=onnx"
    if form is ExportConfig and isinstance(output := config.get("output"), str):
        is_hub, int8 = config.get("format") == "hub", config.get("int8") is True
        check = new_folder if is_hub else partial(new_onnx, int8=int8)
        yield "output", _wrong(Annotated[str, AfterValidator(check)], output)
    if form is TrainConfig and isinstance(trainer, Mapping):
        limits = (trainer.get(key) for key in ("max_epochs", "max_steps"))
        if not any(isinstance(limit, int) and limit >= 0 for limit in limits):
            yield (
                "trainer.max_epochs",
                f"{json.dumps(trainer.get('max_epochs'))}: the learning rate falls until the last "
                "step, so give a number of epochs, or trainer.max_steps=...",
            )
        if text := _undivided(config.get("batch_size"), trainer):
            yield "batch_size", text


def _undivided(batch_size: Any, trainer: Mapping[str, Any]) -> str:
    """Tell how a batch cannot be shared by the processes of a Trainer node; empty if it can be."""
    ranks, parts = processes(trainer), trainer.get("accumulate_grad_batches", 1)
    if not ranks or type(batch_size) is not int or type(parts) is not int:
        return ""
    shares = ranks * max(parts, 1)
    if batch_size % shares == 0:
        return ""
    rule = f"must be divisible by the {ranks} processes of trainer.devices"
    rule += " and trainer.num_nodes" if trainer.get("num_nodes", 1) != 1 else ""
    rule += f" times trainer.accumulate_grad_batches={parts}" if parts > 1 else ""
    return f"{batch_size} {rule}; {max(batch_size // shares, 1) * shares} is"


def processes(trainer: Mapping[str, Any]) -> int | None:
    """Return the number of processes a Trainer node asks for; None when the machine decides."""
    match trainer.get("devices"):
        case bool():
            return None
        case int(count) if count > 0:
            pass
        case list(devices):
            count = len(devices)
        case str(text) if text.isdecimal():
            count = int(text)
        case str(text) if "," in text:
            count = len([part for part in text.split(",") if part.strip()])
        case _:
            return None
    nodes = trainer.get("num_nodes", 1)
    return count * nodes if isinstance(nodes, int) and nodes > 0 else None
