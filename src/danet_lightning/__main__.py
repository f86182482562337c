"""`danet <verb> key=value ...` runs `python -m danet_lightning.<verb> key=value ...`."""

import runpy
import sys

import danet_lightning
from danet_lightning.errors import nearest

VERBS = {
    "train": "fit a network, then evaluate its best checkpoint",
    "evaluate": "measure a checkpoint on a split of a data set",
    "predict": "segment images into index PNGs and overlays",
    "attention": "look into a checkpoint: what each pixel and channel of an image attends to",
    "check": "read every file of a data set, and report what is wrong with it",
    "prepare": "download, verify and unpack a data set",
    "export": "ship a checkpoint: an ONNX file with a parity report, or a folder for the hub",
    "report": "compare runs on one page: means over seeds, curves, classes, pictures",
    "convert": "turn the authors' or MMSegmentation's weights into a checkpoint",
}
USAGE = "danet <verb> key=value ...      danet <verb> --help explains one"


def main() -> None:
    """Run a verb as the main module, so that Lightning's other processes start the same one."""
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb in {"-h", "--help"}:
        print(USAGE, *(f"  {name:<10} {what}" for name, what in VERBS.items()), sep="\n")
        return
    if verb == "--version":
        print(f"danet_lightning {danet_lightning.__version__}")
        return
    if verb not in VERBS:
        listed = ", ".join(VERBS)
        print(
            f"danet: no verb {verb!r}{nearest(verb, list(VERBS))} Verbs: {listed}", file=sys.stderr
        )
        sys.exit(2)
    sys.argv[:] = [f"{sys.argv[0]} {verb}", *rest]
    sys.path.insert(0, "")  # this folder, as python -m has it: a config may name your own modules
    runpy.run_module(f"danet_lightning.{verb}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
