"""Launch a command: compose its configuration, check it, call the task, explain what failed."""

import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from danet_lightning.config.commands import CommandConfig, open_keys, problems, text_keys
from danet_lightning.config.explanation import explain, refuse
from danet_lightning.config.machine import require_working_folder, settle_in
from danet_lightning.config.overrides import (
    added,
    check_choices,
    compose,
    compose_common,
    insert,
    literal,
    points,
    quoted,
    unknown_keys,
)
from danet_lightning.config.run_folder import Folder, chosen_folder, occupied
from danet_lightning.config.sweep import point, repetition, score, sweep
from danet_lightning.config.terminal import protect_log, protect_output
from danet_lightning.config.validation import restore_texts
from danet_lightning.disk.writing import FULL, machine_errors, refusal
from danet_lightning.errors import RequestError, RunError
from danet_lightning.processes.internals import command_line_parser
from danet_lightning.processes.launching import (
    one_configuration,
    rank,
    started_outside,
    wait_for_first,
)

VERSION_BASE = "1.3"


def launch(name: str, form: type[CommandConfig]) -> None:
    """Run a command: compose and check the config of its name, then call its `run` module.

    The points of a sweep are all checked before the first one runs. Ends the process with code 2
    and a message when the request was wrong, with 1 when the run failed, with 130 after Ctrl-C.

    Args:
        name: The command's. `danet_lightning.<name>.run.<name>` is called with the config and the
            run folder, which exists and is `config.run_dir`; it is imported when all is checked.
        form: The typed top level of the config.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask a server
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back as they are, not printed by Hydra
    os.environ["MPLBACKEND"] = "agg"  # no figure is shown; a notebook's may not be importable here
    protect_output()
    is_sweep = bool({"-m", "--multirun"} & set(sys.argv))
    sys.argv[1:] = understood(sys.argv[1:], form, is_sweep)
    if rank():  # the first process leaves the records, and the log
        insert("hydra.output_subdir=null", "hydra/job_logging=none")
    started = False

    def job(config: DictConfig) -> Any:
        nonlocal started
        started = True
        protect_log()
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        with open_dict(config):
            config.run_dir = str(run_dir)
        is_point = HydraConfig.get().mode is RunMode.MULTIRUN
        with point(run_dir) if is_point else told():
            # again: a sampling sweeper makes up its points as it goes
            validate(config, form, HydraConfig.get().overrides.task)
            own = occupied(Folder("run", run_dir, is_dated=False)) if is_point else nullcontext()
            settle_in()
            with own, machine_errors(run_dir), one_configuration(name, config, run_dir):
                run_module = import_module(f"danet_lightning.{name}.run")
                getattr(run_module, name)(config, run_dir)
            return score(run_dir) if is_point else None

    job.__name__ = name  # by which Hydra calls the job
    run = hydra.main(str(conf_dir()), name, VERSION_BASE)(job)
    try:
        require_working_folder()
        chosen = check_command_line(name, form)
        if chosen is None or rank():  # the first process has the folder for all
            run()
            return
        with occupied(chosen) as folder:  # before Hydra writes there
            again = repetition(name, folder)
            # once for all jobs, wherever they run
            insert(f"hydra.{chosen.kind}.dir={quoted(str(folder))}")
            with sweep(folder, again) if is_sweep else nullcontext():
                run()
    except KeyboardInterrupt:
        print("Interrupted; what was written stays in the run folder.", file=sys.stderr)
        sys.exit(130)
    except RunError as error:  # of a point, that even the note of it cannot be written
        print(error, file=sys.stderr)
        sys.exit(1)
    except RequestError as error:
        refuse(error)
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        if started:
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            name = error.filename or "A file of run_dir"
            print(refusal(name, error), file=sys.stderr)
            sys.exit(1)
        refuse(error)


def understood(
    arguments: Sequence[str], form: type[CommandConfig], is_sweep: bool = False
) -> list[str]:
    """Write what was typed so that Hydra reads it: texts in quotes, keys of open nodes added."""
    texts, nodes = text_keys(form), open_keys(form)
    return [literal(added(each, nodes), is_sweep, texts=texts) for each in arguments]


@contextmanager
def told() -> Iterator[None]:
    """End the process with what is told of an error, if it has a name."""
    try:
        yield
    except Exception as error:
        named = isinstance(error, RequestError | RunError)
        if rank() == 0 and not named:
            raise
        text = explain(error) if named else traceback.format_exc()
        print(f"process {rank()}: {text}" if rank() else text, file=sys.stderr)
        wait_for_first()
        sys.exit(2 if isinstance(error, RequestError) else 1)


def conf_dir() -> Path:
    """Where the YAML files lie: inside the package in a wheel, beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(path for path in (package / "conf", package.parents[1] / "conf") if path.is_dir())


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
    found = {key: f"a value is required: {key}=..." for key in _keys_of(raw, r"\?\?\?")}
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        found = problems(plain, form) | found
    except OmegaConfBaseException as error:  # an interpolation; perhaps to a missing value
        found = found or {str(error.full_key): str(error).splitlines()[0]}
    copies = _keys_of(raw, r"\$\{([\w.]+)\}")
    told = [f"{key}: {text}" for key, text in found.items() if not _is_told(key, found, copies)]
    if told:
        raise RequestError("\n".join(told))


def check_command_line(
    name: str, form: type[CommandConfig], command_line: Sequence[str] | None = None
) -> Folder | None:
    """Check every config that a command line asks for, before any folder is made.

    Returns:
        The folder of the run or the sweep, if the command leaves one.

    Raises:
        RequestError: A composed config is wrong.
        HydraException: An override cannot be read or applied.
    """
    args = command_line_parser().parse_args(command_line)
    if args.help or args.hydra_help or args.info or args.shell_completion:
        return None
    if args.multirun and started_outside():
        raise RequestError(
            "-m: torchrun and srun would start the whole sweep in each of their processes. Start "
            "it by itself: with trainer.devices=..., or with hydra/launcher=submitit_slurm."
        )
    name, overrides = args.config_name or name, list(args.overrides)
    if args.config_dir:
        if not Path(args.config_dir).is_dir():
            raise RequestError(f"--config-dir {args.config_dir}: no such folder")
        searched = quoted(f"file://{Path(args.config_dir).absolute()}")
        overrides.append(f"hydra.searchpath=[{searched}]")
    folder = Path(args.config_path or conf_dir()).absolute()
    before = HydraConfig.instance().cfg
    try:
        with hydra.initialize_config_dir(str(folder), version_base=VERSION_BASE):
            for job, swept in points(name, overrides) if args.multirun else [(overrides, "")]:
                config = _check_point(name, job, form, swept, to_run=not args.cfg)
            if args.cfg or not (args.multirun or form.leaves_folder):
                return None
            if args.multirun:
                return chosen_folder(compose_common(name, overrides), "sweep")
            return chosen_folder(config, "run")
    finally:
        HydraConfig.instance().cfg = before


def _check_point(
    name: str, overrides: Sequence[str], form: type[CommandConfig], swept: str, to_run: bool
) -> DictConfig:
    try:
        check_choices(overrides)
        try:
            config = compose(name, overrides)
        except HydraException as error:
            if isinstance(error.__cause__, OmegaConfBaseException):  # a key that no file sets
                problems = unknown_keys(name, overrides)
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
    """Processes that compose their own configurations have to agree on the run folder."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    if started_outside() and "${now:" in raw["run_dir"]:
        raise RequestError(
            f"run_dir: {raw['run_dir']} names the time, which is another one for each process that "
            "torchrun or srun starts, and after a restart. Set run_dir=..."
        )


def _keys_of(value: Any, pattern: str, key: str = "") -> dict[str, str]:
    """The dotted keys of all texts that match, with the first group of the match."""
    if isinstance(value, str) and (match := re.fullmatch(pattern, value)):
        return {key: match[match.lastindex or 0]}
    found: dict[str, str] = {}
    for name, child in value.items() if isinstance(value, dict) else ():
        found |= _keys_of(child, pattern, f"{key}.{name}" if key else str(name))
    return found


def _is_told(key: str, found: dict[str, str], copies: dict[str, str]) -> bool:
    """Whether a value is an interpolation of one that is reported under its own key."""
    heads = [copy for copy in copies if key == copy or key.startswith(f"{copy}.")]
    return any(copies[head] + key[len(head) :] in found for head in heads)
