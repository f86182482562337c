"""A folder as the Hugging Face hub has them: weights without pickle, and what they belong to."""

import json
from pathlib import Path
from typing import Any

from danet_lightning.checkpoints.kinds import SCHEME
from danet_lightning.errors import RequestError, require_extra

WEIGHTS, CONFIG = "model.safetensors", "config.json"
LARGEST_CONFIG = 2**24  # bytes; that of 150 classes has 20,000


def read(folder: Path) -> dict[str, Any]:
    """Read a folder that `danet export format=hub` wrote.

    Returns:
        The same as a checkpoint of ours holds, unchecked: `danet_lightning`, what it says of
        itself, and `state_dict`, the tensors by their names in the network after `net.`.

    Raises:
        RequestError: The extra is missing, or a file of the folder is, or is damaged.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise RequestError(
                f"ckpt_path: {folder.absolute()} holds no {name}, which a folder of danet export "
                "format=hub has. Give such a folder, or a checkpoint file."
            )
    require_extra("hub", ["safetensors"], f"ckpt_path: {folder}")
    from safetensors.torch import load_file

    try:
        if (folder / CONFIG).stat().st_size > LARGEST_CONFIG:
            raise ValueError("too large")
        facts = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors has a kind of its own, and deep JSON recurses
        name = WEIGHTS if "facts" in locals() else CONFIG
        raise RequestError(
            f"ckpt_path: {folder / name} is truncated or damaged ({str(error)[:200]}). Fetch the "
            "folder again."
        ) from error
    return {
        "danet_lightning": facts,
        "state_dict": {f"net.{name}": tensor for name, tensor in weights.items()},
    }


def fetch(address: str) -> Path:
    """Bring the two files of `hf://user/name` into the hub's cache on this machine.

    Raises:
        RequestError: The extra is missing, there is no such network, or it cannot be reached.
    """
    require_extra("hub", ["huggingface_hub", "safetensors"], address)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(address.removeprefix(SCHEME), allow_patterns=[CONFIG, WEIGHTS])
        )
    except Exception as error:  # wrong names, no access, no network, each with a kind of its own
        raise RequestError(
            f"{address} cannot be fetched: {' '.join(str(error).split())[:300].rstrip('.')}. Give "
            "hf://user/name as its page shows it, and log in with `hf auth login` if it is private."
        ) from error
