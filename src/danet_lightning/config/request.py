"""What a command line asks for: every config of it composed and checked before anything is done."""

import argparse
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from danet_lightning.config.commands import CommandConfig
from danet_lightning.config.nearest_keys import meant_key, refuse_word, unknown_keys
from danet_lightning.config.overrides import (
    check_choices,
    compose,
    compose_common,
    points,
    sweep_settings,
)
from danet_lightning.config.rules import problems
from danet_lightning.config.run_folder import Folder, chosen_folder
from danet_lightning.config.spelling import quoted
from danet_lightning.config.sweep import side_by_side
from danet_lightning.config.validation import restore_texts
from danet_lightning.errors import RequestError, first_line
from danet_lightning.processes.internals import command_line_parser, share_store
from danet_lightning.processes.launching import rank, started_outside
from danet_lightning.runs.reading import flat

VERSION_BASE = "1.3"


class Request(NamedTuple):
    """What a command line asks for.

    Attributes:
        overrides: Of the configuration.
        config: Composed and checked, with Hydra's part; None where Hydra composes by itself, for
            the points of a sweep and what it prints.
        folder: Of the run or the sweep, if this process is to make one.
        settings: Overrides of Hydra's part that a sweep has by default.
        together: How many points of a sweep run at the same time on this machine.
    """

    overrides: list[str]
    config: DictConfig | None = None
    folder: Folder | None = None
    settings: Sequence[str] = ()
    together: int = 1


@contextmanager
def checked_request(
    name: str, form: type[CommandConfig], arguments: Sequence[str]
) -> Iterator[Request]:
    """Check every config that a command line asks for, before any folder is made.

    Yields:
        The request, while Hydra is initialized with its YAML files.

    Raises:
        RequestError: A composed config is wrong.
        HydraException: An override cannot be read or applied.
    """
    args, unknown = command_line_parser().parse_known_args(arguments)
    overrides = list(args.overrides)
    if args.help or args.hydra_help or args.info or args.shell_completion:
        yield Request(overrides)
        return
    _refuse_options(args)
    name = args.config_name or name
    if args.config_dir:
        searched = quoted(f"file://{Path(args.config_dir).absolute()}")
        overrides.append(f"hydra.searchpath=[{searched}]")
    if rank():  # the first process leaves the records, and the log
        overrides += ["hydra.output_subdir=null", "hydra/job_logging=none"]
    conf = Path(args.config_path or conf_dir()).absolute()
    before = HydraConfig.instance().cfg
    share_store()
    try:
        with hydra.initialize_config_dir(str(conf), name, VERSION_BASE):
            if unknown:
                word = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
                raise RequestError(
                    f"{unknown[0]}: settings are written as key=value"
                    f"{', here ' * bool(meant := meant_key(word, name, form))}{meant}; "
                    f"danet {name} --help lists them."
                )
            for each in overrides:
                if "=" not in each and not each.startswith("~"):
                    raise RequestError(refuse_word(each, name, form))
            if args.multirun:
                common = compose_common(name, overrides)
                _require_launcher(common)
                place = chosen_folder(common, "sweep")
                settings = sweep_settings(overrides, common)
                count = 0
                for job, swept in points(overrides, common):
                    _checked_job(name, job, form, swept)
                    count += 1
                together = side_by_side(count, common.hydra)
                yield Request(overrides, folder=place, settings=settings, together=together)
                return
            config = _checked_job(name, overrides, form, to_run=not args.cfg)
            if args.cfg:
                yield Request(overrides)
                return
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise RequestError("hydra.mode=MULTIRUN: start a sweep with -m instead.")
            is_maker = form.leaves_folder and not rank()  # the first process makes it for all
            folder = chosen_folder(config, "run") if is_maker else None
            with open_dict(config):
                config.hydra = HydraConfig.get()
            yield Request(overrides, config, folder)
    finally:
        HydraConfig.instance().cfg = before


def _refuse_options(args: argparse.Namespace) -> None:
    """Refuse options of Hydra's that would do something else than they seem to.

    Raises:
        RequestError: With what to do instead.
    """
    if args.experimental_rerun:
        raise RequestError(
            "--experimental-rerun: a pickled job is not run. The same command goes on with a run, "
            "and a sweep says at its end what runs it again."
        )
    if args.multirun and started_outside():
        raise RequestError(
            "-m: torchrun and srun would start the whole sweep in each of their processes. Start "
            "it by itself: with trainer.devices=..., or with hydra/launcher=submitit_slurm."
        )
    if args.config_dir and not Path(args.config_dir).is_dir():
        raise RequestError(f"--config-dir {args.config_dir}: no such folder")


def _require_launcher(sweep: DictConfig) -> None:
    """Refuse to give the points of a sweep to SLURM where there is none.

    Args:
        sweep: The config that its jobs have in common, Hydra's part included.
    """
    is_slurm = str(sweep.hydra.launcher._target_).endswith(".SlurmLauncher")
    if is_slurm and shutil.which("srun") is None:
        raise RequestError(
            "hydra/launcher: this machine has no srun, so there is no SLURM to give jobs to. "
            "Start it on a login node, or leave out hydra/launcher."
        )


def _checked_job(
    name: str,
    overrides: Sequence[str],
    form: type[CommandConfig],
    swept: str = "",
    to_run: bool = True,
) -> DictConfig:
    """Compose the config of a job and, if it is to run, check it.

    Args:
        name: Of the config.
        overrides: Of the job.
        form: The typed top level of the config.
        swept: The overrides that are swept, as text.
        to_run: Whether the job is to run, and its config not only to be shown.
    """
    try:
        check_choices(overrides)
        try:
            config = compose(name, overrides)
        except HydraException as error:
            if isinstance(error.__cause__, OmegaConfBaseException):  # a key that no file sets
                problems = unknown_keys(name, form, overrides)
                if problems:
                    lines = [f"{key}: {text}" for key, text in problems.items()]
                    raise RequestError("\n".join(lines)) from error
            raise
        if to_run:
            validate(config, form, overrides)
            _check_run_dir(config)
        return config
    except RequestError as error:
        raise RequestError(f"In the job {swept}:\n{error}" if swept else str(error)) from error


def _check_run_dir(config: DictConfig) -> None:
    """Refuse a run folder that the processes of torchrun or srun would each name otherwise."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    if started_outside() and "${now:" in raw["run_dir"]:
        raise RequestError(
            f"run_dir: {raw['run_dir']} names the time, which is another one for each process that "
            "torchrun or srun starts, and after a restart. Set run_dir=..."
        )


def validate(config: DictConfig, form: type[CommandConfig], overrides: Sequence[str] = ()) -> None:
    """Check a composed config; what it describes is imported for it, and not yet built.

    Args:
        config: Whose values become texts where texts were typed, as `root=2024` for a folder.
        form: Its typed top level.
        overrides: Of the command line.

    Raises:
        RequestError: All that is wrong, one line for each key.
    """
    restore_texts(config, overrides)
    raw = OmegaConf.to_container(config, resolve=False)
    texts = {key: value for key, value in flat(raw).items() if isinstance(value, str)}
    missing = [key for key, text in texts.items() if text == "???"]
    wrong = {key: f"a value is required: {key}=..." for key in missing}
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        wrong = problems(plain, form) | wrong
    except OmegaConfBaseException as error:  # an interpolation; perhaps to a missing value
        wrong = wrong or {str(error.full_key): first_line(error)}
    matches = {key: re.fullmatch(r"\$\{([\w.]+)\}", text) for key, text in texts.items()}
    copies = {key: match[1] for key, match in matches.items() if match}
    lines = [f"{key}: {text}" for key, text in wrong.items() if not _is_copy(key, wrong, copies)]
    if lines:
        raise RequestError("\n".join(lines))


def _is_copy(key: str, wrong: dict[str, str], copies: dict[str, str]) -> bool:
    """Tell whether a value is an interpolation of one that is reported under its own key."""
    heads = [copy for copy in copies if key == copy or key.startswith(f"{copy}.")]
    return any(copies[head] + key[len(head) :] in wrong for head in heads)


def conf_dir() -> Path:
    """Find where the YAML files lie: inside the package in a wheel, beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(path for path in (package / "conf", package.parents[1] / "conf") if path.is_dir())
