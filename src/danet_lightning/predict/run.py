"""Segment images into index PNGs and overlays: plan, share, write, report."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.checkpoints import loading
from danet_lightning.checkpoints.rebuilding import PROTOCOL
from danet_lightning.config.building import build_over, request_errors
from danet_lightning.disk.names import expanded
from danet_lightning.predict import submission, writing
from danet_lightning.predict.derived import CLASSES
from danet_lightning.predict.duration import forecast
from danet_lightning.predict.plan import refuse_foreign
from danet_lightning.predict.search import counted
from danet_lightning.predict.submission import Work
from danet_lightning.predict.writing import Outcome
from danet_lightning.processes.group import Team


def predict(config: DictConfig, run_dir: Path) -> None:
    """Predict `config.input` or a split; exit code 1 if an image had to be skipped."""
    content = loading.read(config.ckpt_path)
    with request_errors():
        stored = content["danet_lightning"]["config"]
        protocol = build_over(stored["protocol"], config.protocol, PROTOCOL, config.trusted)
        segmenter = loading.segmenter(content, config.trusted, protocol)
        work = submission.plan(config, segmenter.classes, stored)
        beside = [] if work.form else [expanded(config.output) / CLASSES]
        refuse_foreign(work.jobs, *beside)
    team = Team(config.device, int(os.environ.get("LOCAL_WORLD_SIZE", config.devices)))
    device = writing.choose_device(team.device)
    share = team.share(work.jobs)
    max_side = None if work.is_dataset else config.max_side
    if (
        device.type == "cpu"
        and not team.rank
        and (sentence := forecast(segmenter, share, max_side))
    ):
        print(sentence, file=sys.stderr)
    outcome = writing.predict_images(
        segmenter,
        share,
        device,
        config.opacity,
        work.ids,
        work.form is None or work.form.palette,
        upright=not work.is_dataset,
        max_side=max_side,
    )
    parts = team.collect([outcome])
    if team.rank:
        return
    if work.form is None:
        writing.write_classes(segmenter, config.output)
    _report(parts, work, config.output, max_side)
    if any(part.skipped for part in parts):
        raise SystemExit(1)
    if work.form:
        print(f"packed into {work.form.pack(work.jobs, expanded(config.output))}")


def _report(parts: Sequence[Outcome], work: Work, output: str, max_side: int | None) -> None:
    """Print what became of the images of all processes."""
    skipped = [each for part in parts for each in part.skipped]
    print(f"{len(work.jobs) - len(skipped)} of {len(work.jobs)} images segmented into {output}")
    turned = sum(part.turned for part in parts)
    if turned and work.is_dataset:
        print(f"{turned} have an EXIF orientation, which is not applied: labels are not turned")
    elif turned:
        print(f"{turned} turned upright by their EXIF orientation, as viewers show them")
    reduced = sum(part.reduced for part in parts)
    if reduced:
        print(f"{reduced} reduced for the network: max_side={max_side}")
    if work.others:
        print(f"passed over: {counted(work.others)}")
    if skipped:
        print(f"{len(skipped)} skipped:", *skipped, sep="\n  ", file=sys.stderr)
