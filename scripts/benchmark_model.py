"""What a network costs: `python scripts/benchmark_model.py --config model=danet --size 512x1024`.

PyTorch beside its exported graph beside that in int8: milliseconds, images a second, memory,
parameters, floating-point operations. H, W: height and width of an image.
"""

import argparse
import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from measuring import image_size, machine, memory, milliseconds, positive
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from danet_lightning import load
from danet_lightning.checkpoints.metadata import git_commit, versions
from danet_lightning.checkpoints.onnx_file import OnnxNetwork
from danet_lightning.config.building import build
from danet_lightning.config.overrides import compose
from danet_lightning.config.request import VERSION_BASE, conf_dir
from danet_lightning.disk.writing import write_content
from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.export.graph import onnx_model
from danet_lightning.export.parity import logits, scenes
from danet_lightning.export.quantization import quantized
from danet_lightning.models.segmenter import MEAN, STD, Network, Segmenter

CLASSES = 19  # of Cityscapes
PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "float16": torch.float16}
COLUMNS = ("network", "runs as", "images", "ms", "images/s", "memory MiB", "M parameters", "GFLOPs")


def arguments() -> argparse.ArgumentParser:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--config", nargs="*", default=[], help="each the overrides of train, in one text")
    add("--checkpoint", nargs="*", default=[], help="checkpoints, or hub folders")
    add("--trusted", nargs="*", default=[], help="packages a checkpoint may name")
    add("--size", nargs="+", type=image_size, default=[(512, 1024)], metavar="HxW", help="images")
    add("--batch", type=positive, default=1, help="images at once")
    add("--precision", nargs="+", choices=PRECISIONS, default=["float32"], help="of PyTorch")
    add("--device", nargs="+", choices=("cpu", "cuda"), default=["cpu"], help="of PyTorch")
    add("--onnx", nargs="*", choices=("float32", "int8"), default=[], help="exported files too")
    add("--repeats", type=positive, default=10, help="after one that only warms up")
    add("--output", type=Path, default=Path("benchmark_model.json"), help="the figures as JSON")
    return parser


def main() -> None:
    """Measure every network in every way asked for; print a table, write the figures after each."""
    options = arguments().parse_args()
    networks: dict[str, Callable[[], Segmenter]] = {
        text: partial(composed, shlex.split(text)) for text in options.config
    }
    networks |= {path: partial(load, path, options.trusted) for path in options.checkpoint}
    if not networks:
        raise SystemExit("Give --config, --checkpoint or both.")
    results: dict[str, Any] = {"machine": machine(), "threads": torch.get_num_threads()}
    results |= {"versions": versions(), "git_commit": git_commit(), "repeats": options.repeats}
    results["rows"] = rows = []
    print(" | ".join(COLUMNS), flush=True)
    for name, make in networks.items():
        segmenter = make()
        if isinstance(segmenter.net, OnnxNetwork):
            raise SystemExit(f"{name}: give the checkpoint, and --onnx float32 int8 beside it.")
        for row in measured(segmenter, options):
            rows.append({"network": name, **row})
            print(told(rows[-1]), flush=True)
        write_content(options.output, (json.dumps(results, indent=1) + "\n").encode())


def composed(overrides: list[str]) -> Segmenter:
    """Build the network of a training's configuration, with random weights."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        given = ["run_dir=.", "sweep_dir=.", "backbone.pretrained=false", *overrides]
        net = build(compose("train", given), "model", Network, num_classes=CLASSES)
    names = [str(number) for number in range(CLASSES)]
    return Segmenter(net, names, [(0, 0, 0)] * CLASSES, MEAN, STD, MultiView()).eval()


def measured(segmenter: Segmenter, options: argparse.Namespace) -> Any:
    """Yield a row for each size, runtime, device and precision."""
    parameters = sum(each.numel() for each in segmenter.net.parameters())
    graphs = exported(segmenter, options.onnx, options.size[0])
    for size in options.size:
        pixels = scenes(options.batch, *size)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            logits(segmenter, pixels[:1])
        facts = {
            "images": list(pixels.shape[:1] + pixels.shape[2:]),
            "parameters": parameters,
            "flops_of_an_image": counter.get_total_flops(),
        }
        for device in options.device:
            segmenter.net.to(device)
            for precision in options.precision:
                with torch.autocast(device, PRECISIONS[precision], enabled=precision != "float32"):
                    figures = timed(partial(logits, segmenter), pixels.to(device), options.repeats)
                yield {"runs as": f"PyTorch {device} {precision}", **facts, **figures}
        segmenter.net.cpu()
        for kind, graph in graphs.items():
            yield {
                "runs as": f"ONNX cpu {kind}",
                **facts,
                **timed(graph.run, pixels, options.repeats),
            }


def exported(
    segmenter: Segmenter, kinds: list[str], size: tuple[int, int]
) -> dict[str, OnnxNetwork]:
    """Export a network in some kinds; int8 takes its ranges from drawn scenes."""
    if not kinds:
        return {}
    model = onnx_model(segmenter, {}, ["logits"], 20)
    contents = {"float32": model.SerializeToString()} if "float32" in kinds else {}
    if "int8" in kinds:
        contents["int8"] = quantized(model, [{"image": image} for image in scenes(4, *size)])
    shown = (len(segmenter.classes), segmenter.mean, segmenter.std)
    return {kind: OnnxNetwork(content, *shown) for kind, content in contents.items()}


@torch.inference_mode()
def timed(compute: Callable[[Tensor], Tensor], pixels: Tensor, repeats: int) -> dict[str, Any]:
    """The median time of a pass, and the memory that the first one takes beyond what was held."""
    device = pixels.device.type
    peak = memory(device)
    compute(pixels)
    extra = peak()
    median = milliseconds(partial(compute, pixels), device, repeats)
    return {
        "milliseconds": median,
        "images_a_second": 1000 * len(pixels) / median,
        "peak_bytes": extra,
    }


def told(row: dict[str, Any]) -> str:
    """A row of the table."""
    peak = row["peak_bytes"]
    values = (
        row["network"],
        row["runs as"],
        " x ".join(map(str, row["images"])),
        f"{row['milliseconds']:.1f}",
        f"{row['images_a_second']:.2f}",
        "-" if peak is None else f"{peak / 2**20:.0f}",
        f"{row['parameters'] / 1e6:.1f}",
        f"{row['flops_of_an_image'] / 1e9:.1f}",
    )
    return " | ".join(values)


if __name__ == "__main__":
    main()
