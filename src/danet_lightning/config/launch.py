"""Launch a command: compose its configuration, check it, call the task, explain what failed."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from danet_lightning.config.commands import CommandConfig, open_keys, problems, text_keys
from danet_lightning.config.explanation import explain, refuse
from danet_lightning.config.machine import require_working_folder, settle_in
from danet_lightning.config.overrides import (
    added,
    check_choices,
    compose,
    compose_common,
    inserted,
    literal,
    meant_key,
    points,
    quoted,
    sweep_settings,
    unknown_keys,
)
from danet_lightning.config.run_folder import Folder, chosen_folder, occupied
from danet_lightning.config.sweep import point, score, share_cores, side_by_side, sweep
from danet_lightning.config.terminal import protect_log, protect_output
from danet_lightning.config.validation import restore_texts
from danet_lightning.disk.writing import FULL, machine_errors, refusal
from danet_lightning.errors import RequestError, RunError
from danet_lightning.processes.internals import command_line_parser, run_job
from danet_lightning.processes.launching import (
    command_line,
    one_configuration,
    rank,
    started_outside,
    wait_for_first,
)

VERSION_BASE = "1.3"
SWEEP_DIRS = ("sweep_dir=", "hydra.sweep.dir=")


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
            if is_point:  # composed by the sweeper, which may have sampled its values just now
                validate(config, form, HydraConfig.get().overrides.task)
            claim = occupied(Folder("run", run_dir, is_dated=False)) if is_point else nullcontext()
            settle_in()
            with claim, machine_errors(run_dir), one_configuration(name, config, run_dir):
                run_module = import_module(f"danet_lightning.{name}.run")
                getattr(run_module, name)(config, run_dir)
            return score(run_dir) if is_point else None

    job.__name__ = name  # by which Hydra calls the job
    try:
        require_working_folder()
        arguments = understood(sys.argv[1:], form)
        with checked_request(name, form, arguments) as request:
            if request.config is not None:
                _run(name, request.config, request.folder, job)
                return
        main = hydra.main(str(conf_dir()), name, VERSION_BASE)(job)
        if request.folder is not None:
            _sweep(name, arguments, request, main)
            return
        with command_line(arguments):  # help, or a configuration, is printed
            main()
    except KeyboardInterrupt:
        print("Interrupted; what was written stays in the run folder.", file=sys.stderr)
        sys.exit(130)
    except RunError as error:  # of a point, that even the note of it cannot be written
        print(error, file=sys.stderr)
        sys.exit(1)
    except RequestError as error:
        refuse(error)
    except (HydraException, OmegaConfBaseException, OSError, ValueError, RuntimeError) as error:
        if started or (type(error) is RuntimeError and "srun" not in str(error)):
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            name = error.filename or "A file of run_dir"
            print(refusal(name, error), file=sys.stderr)
            sys.exit(1)
        refuse(error)


def _run(
    name: str, config: DictConfig, chosen: Folder | None, job: Callable[[DictConfig], Any]
) -> None:
    """Run a job in its folder, which is made and kept from others before Hydra writes there."""
    records = (".hydra", f"{name}.log")
    with occupied(chosen, records) if chosen else nullcontext() as folder:
        if folder is not None:
            with read_write(config.hydra):
                config.hydra.run.dir = str(folder)
        run_job(config, job)


def _sweep(
    name: str, arguments: Sequence[str], request: "Request", main: Callable[[], Any]
) -> None:
    """Let Hydra run the points of a sweep, all in one folder, wherever they run."""
    assert request.folder is not None
    with occupied(request.folder) as folder:
        place = quoted(str(folder))
        is_named = any(each.startswith(SWEEP_DIRS) for each in arguments)
        stays = [] if is_named else [f"sweep_dir={place}"]
        again = ["python", "-m", f"danet_lightning.{name}", *arguments, *stays]
        share_cores(request.together)
        all_arguments = inserted(arguments, f"hydra.sweep.dir={place}", *request.settings)
        with command_line(all_arguments), sweep(folder, again, request.overrides):
            main()


def understood(arguments: Sequence[str], form: type[CommandConfig]) -> list[str]:
    """Write what was typed so that Hydra reads it: texts in quotes, keys of open nodes added."""
    is_sweep = bool({"-m", "--multirun"} & set(arguments))
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
    """Find where the YAML files lie: inside the package in a wheel, beside `src` in a checkout."""
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
    wrong = {key: f"a value is required: {key}=..." for key in _keys_of(raw, r"\?\?\?")}
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        wrong = problems(plain, form) | wrong
    except OmegaConfBaseException as error:  # an interpolation; perhaps to a missing value
        wrong = wrong or {str(error.full_key): str(error).splitlines()[0]}
    copies = _keys_of(raw, r"\$\{([\w.]+)\}")
    lines = [f"{key}: {text}" for key, text in wrong.items() if not _is_told(key, wrong, copies)]
    if lines:
        raise RequestError("\n".join(lines))


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
    name = args.config_name or name
    if args.config_dir:
        if not Path(args.config_dir).is_dir():
            raise RequestError(f"--config-dir {args.config_dir}: no such folder")
        searched = quoted(f"file://{Path(args.config_dir).absolute()}")
        overrides.append(f"hydra.searchpath=[{searched}]")
    if rank():  # the first process leaves the records, and the log
        overrides += ["hydra.output_subdir=null", "hydra/job_logging=none"]
    conf = Path(args.config_path or conf_dir()).absolute()
    before = HydraConfig.instance().cfg
    try:
        with hydra.initialize_config_dir(str(conf), name, VERSION_BASE):
            if unknown:
                word = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
                raise RequestError(
                    f"{unknown[0]}: settings are written as key=value"
                    f"{', here ' * bool(meant := meant_key(word, name))}{meant}; "
                    f"danet {name} --help lists them."
                )
            if args.multirun:
                count = 0
                for job, swept in points(name, overrides):
                    _check_point(name, job, form, swept)
                    count += 1
                common = compose_common(name, overrides)
                place = chosen_folder(common, "sweep")
                settings = sweep_settings(overrides, common)
                together = side_by_side(count, common.hydra)
                yield Request(overrides, folder=place, settings=settings, together=together)
                return
            config = _check_point(name, overrides, form, to_run=not args.cfg)
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


def _check_point(
    name: str,
    overrides: Sequence[str],
    form: type[CommandConfig],
    swept: str = "",
    to_run: bool = True,
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
    """Return the dotted keys of all texts that match, with the first group of the match."""
    if isinstance(value, str) and (match := re.fullmatch(pattern, value)):
        return {key: match[match.lastindex or 0]}
    keys: dict[str, str] = {}
    for name, child in value.items() if isinstance(value, dict) else ():
        keys |= _keys_of(child, pattern, f"{key}.{name}" if key else str(name))
    return keys


def _is_told(key: str, wrong: dict[str, str], copies: dict[str, str]) -> bool:
    """Tell whether a value is an interpolation of one that is reported under its own key."""
    heads = [copy for copy in copies if key == copy or key.startswith(f"{copy}.")]
    return any(copies[head] + key[len(head) :] in wrong for head in heads)
