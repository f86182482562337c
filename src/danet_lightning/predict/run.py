"""Segment images into index PNGs and overlays: plan, share, write, report."""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.checkpoints import loading
from danet_lightning.checkpoints.rebuilding import PROTOCOL
from danet_lightning.config.building import build_over, request_errors
from danet_lightning.disk.names import expanded
from danet_lightning.predict import submission, writing
from danet_lightning.predict.search import counted
from danet_lightning.processes.group import Team


def predict(config: DictConfig, run_dir: Path) -> None:
    """Predict `config.input` or a split; exit code 1 if an image had to be skipped."""
    content = loading.read(config.ckpt_path)
    with request_errors():
        own = content["danet_lightning"]["config"]
        protocol = build_over(own["protocol"], config.protocol, PROTOCOL, config.trusted)
        segmenter = loading.segmenter(content, config.trusted, protocol)
        work = submission.plan(config, segmenter.classes, own)
    team = Team(config.device, int(os.environ.get("LOCAL_WORLD_SIZE", config.devices)))
    device = writing.choose_device(team.device)
    writing.prepare_output(config.output)
    outcome = writing.predict_images(
        segmenter,
        team.share(work.jobs),
        device,
        config.opacity,
        work.ids,
        work.has_palette,
        upright=not work.is_dataset,
    )
    parts = team.collect([outcome])
    if team.rank:
        return
    skipped = [each for part in parts for each in part.skipped]
    done = len(work.jobs) - len(skipped)
    print(f"{done} of {len(work.jobs)} images segmented into {config.output}")
    turned = sum(part.turned for part in parts)
    if turned and work.is_dataset:
        print(f"{turned} have an EXIF orientation, which is not applied: labels are not turned")
    elif turned:
        print(f"{turned} were turned upright by their EXIF orientation, as viewers show them")
    if work.others:
        print(f"{sum(work.others.values())} other files passed over: {counted(work.others)}")
    if skipped:
        print(f"{len(skipped)} skipped:", *skipped, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)
    if work.form:
        print(f"packed into {work.form.pack(work.jobs, expanded(config.output))}")
