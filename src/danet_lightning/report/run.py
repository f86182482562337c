"""Compare runs: read their folders, group them over seeds, write a page, a table and a text."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.disk.names import expanded, printable
from danet_lightning.disk.writing import write_content
from danet_lightning.errors import RequestError, nearest
from danet_lightning.predict.writing import choose_device
from danet_lightning.report import page, tables, workspace
from danet_lightning.report.predictions import gallery
from danet_lightning.runs import fairness, grouping, reading
from danet_lightning.runs.overview import table


def report(config: DictConfig, run_dir: Path) -> None:
    """Write report.html, report.csv and report.md into the output folder, and print the means.

    With `wandb`, make a workspace there instead.
    """
    if config.wandb:
        print(f"workspace  {workspace.save(config.wandb)}")
        return
    device = choose_device(config.device)
    places = [config.runs] if isinstance(config.runs, str) else config.runs
    runs = [reading.read(path) for path in reading.find([expanded(place) for place in places])]
    groups = grouping.grouped(runs, config.ignore)
    if not groups:
        reasons = "; ".join(f"{run.path}: {run.reason or 'no config.yaml'}" for run in runs[:5])
        raise RequestError(
            f"runs: of none is the configuration known, so nothing compares. {reasons}"
        )
    baseline = choose_baseline(groups, config.baseline)
    output = expanded(config.output)
    others = [run for run in runs if not run.config]
    shown = page.shown_groups(groups, baseline)
    pictures = gallery(shown, config.images, device, config.trusted)
    title = f"Comparison of {', '.join(map(str, places))}"
    warnings = fairness.warnings(groups)
    if config.ignore:
        warnings.append(f"Runs of one group may differ in {', '.join(config.ignore)}, as asked.")
    text = page.render(title, groups, baseline, others, pictures, warnings)
    classes = page.all_classes(groups)
    compared = {
        "Groups": tables.group_table(groups, baseline),
        "Cost": tables.cost_table(groups),
        "IoU of the classes": tables.class_table(shown, classes),
        "Runs": tables.run_table(groups, others),
    }
    contents = {
        "report.html": text,
        "report.csv": tables.as_csv(groups, others, classes),
        "report.md": tables.as_markdown(title, compared, warnings),
    }
    for name, content in contents.items():
        write_content(output / name, content.encode("utf-8", "replace"))
    print(table([baseline, *(group for group in groups if group is not baseline)]))
    written = ", ".join([str(output / "report.html"), "report.csv", "report.md"])
    print(*map(printable, warnings), f"report  {written}", sep="\n")


def choose_baseline(groups: Sequence[grouping.Group], wanted: str | None) -> grouping.Group:
    """Find the group that others are compared with, by its name or a run folder; else the first.

    Raises:
        RequestError: No group is called so, and no run of one lies there.
    """
    if wanted is None:
        return groups[0]
    words = set(wanted.split())
    for group in groups:
        is_there = any(run.path.resolve() == Path(wanted).resolve() for run in group.runs)
        if is_there or words == set(group.name.split()):
            return group
    names = [group.name for group in groups]
    raise RequestError(
        f"baseline={wanted}: neither a run folder among these nor the name of a group"
        f"{nearest(wanted, names)} Groups: {'; '.join(names[:20])}"
    )
