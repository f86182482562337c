"""Read every file of a data set as training would, and report what is wrong with it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.check.findings import Content, finding_of, inspect
from danet_lightning.check.report import write
from danet_lightning.check.splits import Originals, Pair, Report, Tally
from danet_lightning.config.building import build, request_errors
from danet_lightning.data.base import DataError, DataSet, Source
from danet_lightning.data.files.black_and_white import BlackAndWhite
from danet_lightning.data.samples.cores import cores
from danet_lightning.disk.progress import bar
from danet_lightning.errors import RequestError

NEEDED = ("train", "val")  # without them there is no training


def check(config: DictConfig, run_dir: Path) -> None:
    """Print and write the report on the splits; exit code 1 if something is wrong."""
    with request_errors():
        data = build(config, "dataset", DataSet)
    splits = [config.splits] if isinstance(config.splits, str) else config.splits
    report = walk(data, splits, config.workers)
    write(report, run_dir)
    if report.errors:
        raise SystemExit(1)


def walk(data: DataSet, splits: Sequence[str] | None = None, workers: int | None = None) -> Report:
    """Read every image and label of the splits.

    The order of the findings does not depend on the workers. Threads, because decoding and
    hashing run outside of Python's lock, and they need no second import of torch.

    Args:
        data: The data set.
        splits: Which ones; None: those that are there, of which training needs train and val.
        workers: Images read at the same time; None: one for each core.

    Raises:
        RequestError: A split is unknown, or none is there.
    """
    report = Report(data)
    pairs = _pairs(_sources(report, splits))
    originals: Originals = {}
    pool = ThreadPoolExecutor(workers or cores())
    try:
        contents = pool.map(lambda it: inspect(it.source, it.index, len(data.classes)), pairs)
        progress = bar(contents, total=len(pairs), desc="check", unit="image")
        for pair, content in zip(pairs, progress, strict=True):
            _add(report, pair, content)
            report.find_duplicate(pair, content.digest, originals)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for the images in work only
    report.find_shared(pairs)
    for split in report.splits:
        report.conclude(split)
    return report


def _sources(report: Report, wanted: Sequence[str] | None) -> dict[str, Source]:
    """Pair the files of the splits; what is wrong or missing becomes a finding."""
    known = report.data.splits
    for split in wanted or ():
        if split not in known:
            raise RequestError(f"splits: there is no '{split}'; choose among {', '.join(known)}.")
    sources: dict[str, Source] = {}
    for split in dict.fromkeys(known if wanted is None else wanted):
        problems: Sequence[RequestError] = ()
        try:
            source, problems, published = report.data.pairs(split)
            sources[split] = source
            report.splits[split] = Tally(len(source), published, BlackAndWhite(source, split))
        except RequestError as error:
            problems = [error]
        except OSError as error:  # a folder that may not be listed, a disk that is gone
            problems = [DataError(f"{split}: {error}.")]
        for problem in problems:
            finding = finding_of(problem, "layout", split)
            if finding.kind == "absent" and wanted is None and split not in NEEDED:
                message = finding.message.partition("\n")[0]  # where to get it was not asked
                finding = replace(finding, kind="left_out", message=message)
            report.findings.append(finding)
    if not sources and {finding.kind for finding in report.findings} <= {"absent", "left_out"}:
        message = report.findings[0].message if report.findings else "splits is empty; name one."
        raise RequestError(message)
    return sources


def _pairs(sources: dict[str, Source]) -> list[Pair]:
    """List each pair of files once, with its splits: Cityscapes' trainval is train and val."""
    pairs: dict[object, Pair] = {}
    for split, source in sources.items():
        for index in range(len(source)):
            files = source.paths(index) or (split, index)
            pairs.setdefault(files, Pair(source, index, [])).splits.append(split)
    return list(pairs.values())


def _add(report: Report, pair: Pair, content: Content) -> None:
    """Count one image in each of its splits, and keep what is wrong with it."""
    is_ignored = any(finding.kind == "all_ignored" for finding in content.findings)
    for split in pair.splits:
        tally = report.splits[split]
        if content.size is not None:
            tally.sizes[content.size] += 1
        tally.counts += content.counts
        tally.black_and_white.add(content.counts)
        tally.unlabelled += is_ignored
    splits = tuple(pair.splits)
    report.findings += [replace(finding, splits=splits) for finding in content.findings]
