"""A W&B workspace for the runs of this package, as code: the same panels in every project."""

from typing import TYPE_CHECKING

from danet_lightning.errors import RequestError, require_extra
from danet_lightning.train.wandb_mode import choose_mode

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

STEP = "trainer/global_step"
CURVES = {  # one panel each
    "Scores": ("val/miou", "val/pixel_accuracy", "val/mean_accuracy"),
    "Training": (
        *("train/loss", "train/loss/fused", "gamma/pam", "gamma/cam"),
        *("lr/backbone", "lr/head", "lr/gamma"),
    ),
    "Machine": (*("time/step", "time/images_per_second", "time/data_share", "memory/peak_gib"),),
}
CLASSES = "val/iou/.*"  # one line a class
PICTURES = ("val/predictions",)
BEST = "val/miou.max"
BRANCHES = ("model.pam", "model.cam")  # by which runs are grouped


def workspace(place: str) -> "Workspace":
    """Describe a workspace in which runs are grouped by their branches, with bands over seeds.

    Args:
        place: entity/project.

    Raises:
        RequestError: The place is no such pair, or the extra `workspaces` is not installed.
    """
    entity, _, project = place.partition("/")
    if not entity or not project or "/" in project:
        raise RequestError(f"wandb={place}: give entity/project, as in the address of the project.")
    require_extra("workspaces", ["wandb_workspaces"], "wandb: a workspace")
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    def curve(metric: str) -> panels.LinePlot:
        return panels.LinePlot(
            title=metric,
            x=STEP,
            y=[metric],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )

    sections = [
        workspaces.Section(name=name, panels=[curve(each) for each in metrics], is_open=True)
        for name, metrics in CURVES.items()
    ]
    classes = panels.LinePlot(title="IoU of the classes", x=STEP, metric_regex=CLASSES)
    pictures = panels.MediaBrowser(title="pictures", media_keys=list(PICTURES))
    sections[0].panels.append(classes)
    sections += [
        workspaces.Section(name="Pictures", panels=[pictures], is_open=True),
        workspaces.Section(
            name="What matters",
            panels=[panels.ParameterImportancePlot(BEST), panels.RunComparer(diff_only="split")],
            is_open=True,
        ),
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="danet_lightning",
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=STEP, max_runs=30),
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Config(key) for key in BRANCHES],
            order=[workspaces.Ordering(workspaces.Summary(BEST), ascending=False)],
        ),
    )


def save(place: str) -> str:
    """Make the workspace in a W&B project, a new one each time, and return its address.

    Raises:
        RequestError: See `workspace`; or there is no account, or the server refuses or is silent.
    """
    described = workspace(place)
    mode, reason = choose_mode()
    if mode != "online":
        raise RequestError(f"wandb={place}: W&B is {mode} here ({reason}); this needs its server.")
    try:
        return str(described.save().url)
    except Exception as error:  # of wandb, requests or the GraphQL client: each has its own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RequestError(f"wandb={place}: the server refuses: {reason}") from error
