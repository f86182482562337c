"""Read a network of ours: a checkpoint, a hub folder, an exported file. No Hydra, no Lightning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from danet_lightning.checkpoints import hub_folder, onnx_file
from danet_lightning.checkpoints.facts import checked
from danet_lightning.checkpoints.kinds import SCHEME
from danet_lightning.checkpoints.rebuilding import PROTOCOL, build, build_network
from danet_lightning.errors import RequestError
from danet_lightning.models.segmenter import EvaluationProtocol, Segmenter
from danet_lightning.models.weights import read_file, refuse_other_numbers


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint and check what it says of itself; none of its parts is built.

    Args:
        path: Of a checkpoint file, or of what `export` wrote: a hub folder, a file *.onnx.
            `hf://user/name` is fetched from the Hugging Face hub.

    Returns:
        Lightning's checkpoint, as dicts, lists, plain values and tensors;
        `["danet_lightning"]` holds config, classes, palette, mean, std. What is exported has
        nothing of the training, and an ONNX file its network under `["onnx"]`.

    Raises:
        RequestError: The file is missing, truncated, no torch file or not one of ours; it would
            run code or take far more memory than it has bytes; or what it holds has other types
            or sizes than in every checkpoint of ours.
    """
    path = hub_folder.fetch(str(path)) if str(path).startswith(SCHEME) else Path(path)
    if path.is_dir():
        return checked(hub_folder.read(path), path)
    if not path.is_file():
        raise RequestError(
            f"ckpt_path: no file at {path.absolute()}. Training leaves best.ckpt and last.ckpt "
            "in its run folder."
        )
    if path.suffix.lower() == ".onnx":
        return checked(onnx_file.read(path), path)
    try:
        content = read_file(path)
    except ValueError as error:
        raise RequestError(f"ckpt_path: {error}") from error
    if "danet_lightning" not in content:
        names = ", ".join(sorted(str(name)[:40] for name in content)[:5]) or "nothing"
        raise RequestError(
            f"ckpt_path: {path} was not written by danet_lightning; it holds {names}. For weights "
            "of the authors or of MMSegmentation use danet_lightning.models.import_weights."
        )
    return checked(content, path)


def load(path: str | Path, trusted: Sequence[str] = ()) -> Segmenter:
    """Rebuild the network of a checkpoint, ready to predict.

    Args:
        path: `best.ckpt` or `last.ckpt` of a run folder, or what `export` wrote: a hub folder, a
            file *.onnx. `hf://user/name` is fetched from the Hugging Face hub.
        trusted: Further packages whose classes the checkpoint may name (yours, if the run used
            a network of yours); classes outside them and danet_lightning are not touched.

    Returns:
        The network on the CPU in eval mode, with the classes, the palette, the normalization and
        the evaluation protocol of the run.

    Raises:
        RequestError: The file cannot be used; the message says why.
    """
    return segmenter(read(path), trusted)


def segmenter(
    checkpoint: Mapping[str, Any],
    trusted: Sequence[str] = (),
    protocol: EvaluationProtocol | None = None,
) -> Segmenter:
    """Rebuild what `read` returned, as `load` does, or with another protocol than the run's."""
    facts = checkpoint["danet_lightning"]
    net = network(checkpoint, trusted)
    protocol = protocol or build(facts["config"]["protocol"], PROTOCOL, _packages(trusted))
    shown = {name: facts[name] for name in ("classes", "palette", "mean", "std")}
    return Segmenter(net, **shown, protocol=protocol).eval()


def network(checkpoint: Mapping[str, Any], trusted: Sequence[str] = ()) -> nn.Module:
    """Rebuild the network alone, in eval mode."""
    if "onnx" in checkpoint:
        return onnx_file.network(checkpoint).eval()
    facts = checkpoint["danet_lightning"]
    weights = {
        name.removeprefix("net."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("net.")
    }
    net = build_network(facts["config"]["model"], _packages(trusted), weights)
    refuse_other_numbers(net.state_dict(), weights, "ckpt_path")
    try:
        net.load_state_dict(weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise RequestError(
            f"ckpt_path: the weights do not fit their own model: {reason}"
        ) from error
    return net.eval()


def _packages(trusted: Sequence[str]) -> list[str]:
    return [trusted] if isinstance(trusted, str) else list(trusted)
