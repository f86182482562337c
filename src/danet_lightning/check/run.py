"""Walk over the splits of a data set: read what training would read, and keep every finding."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

from danet_lightning.check.findings import Content, finding_of, inspect
from danet_lightning.check.report import write
from danet_lightning.check.splits import Pair, Report, Tally, conclude, duplicate, shared
from danet_lightning.config.building import build, request_errors
from danet_lightning.data.base import DataError, DataSet, Source
from danet_lightning.data.files.black_and_white import BlackAndWhite
from danet_lightning.data.samples.loader import cores
from danet_lightning.disk.progress import bar
from danet_lightning.errors import RequestError

NEEDED = ("train", "val")  # without them there is no training
Item = TypeVar("Item")
Result = TypeVar("Result")


def check(config: DictConfig, run_dir: Path) -> None:
    """Print and write the report on the splits; exit code 1 if something is wrong."""
    with request_errors():
        data = build(config, "dataset", DataSet)
    splits = [config.splits] if isinstance(config.splits, str) else config.splits
    found = walk(data, splits, config.workers)
    write(found, run_dir)
    if found.errors:
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
    sources = _sources(report, splits)
    pairs = _pairs(sources)
    originals: dict[bytes, dict[tuple[str, ...], str]] = {}
    workers = workers or cores()
    pool = ThreadPoolExecutor(workers)
    try:
        contents = _in_order(pool, lambda pair: _inspect(pair, data), pairs, 4 * workers)
        for pair, content in zip(
            pairs, bar(contents, total=len(pairs), desc="check", unit="image"), strict=True
        ):
            _add(report, pair, content)
            report.findings += duplicate(pair, content, originals)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for the images in work only
    report.findings += shared(sources)
    for split, tally in report.splits.items():
        conclude(report, split, tally)
    return report


def _sources(report: Report, wanted: Sequence[str] | None) -> dict[str, Source]:
    """The splits that can be read; what is missing becomes a finding."""
    known = report.data.splits
    for split in wanted or ():
        if split not in known:
            raise RequestError(f"splits: there is no '{split}'; choose among {', '.join(known)}.")
    sources: dict[str, Source] = {}
    for split in dict.fromkeys(known if wanted is None else wanted):
        problems: Sequence[RequestError] = ()
        try:
            sources[split], problems, published = report.data.pairs(split)
        except RequestError as error:
            problems = [error]
        except OSError as error:  # a folder that may not be listed, a disk that is gone
            problems = [DataError(f"{split}: {error}.")]
        for problem in problems:
            finding = finding_of(problem, "layout", split)
            if finding.kind == "absent" and wanted is None and split not in NEEDED:
                missing = finding.message.partition("\n")[0]  # where to get it was not asked
                finding = replace(finding, kind="left_out", message=missing)
            report.findings.append(finding)
        if split in sources:
            source = sources[split]
            report.splits[split] = Tally(len(source), published, BlackAndWhite(source, split))
    if not sources and {each.kind for each in report.findings} <= {"absent", "left_out"}:
        message = report.findings[0].message if report.findings else "splits is empty; name one."
        raise RequestError(message)
    return sources


def _pairs(sources: dict[str, Source]) -> list[Pair]:
    """Each pair of files once: Cityscapes' trainval is train and val, COCO-Stuff's val is test."""
    pairs: dict[object, Pair] = {}
    for split, source in sources.items():
        for index in range(len(source)):
            files = source.paths(index) or (split, index)
            pairs.setdefault(files, Pair(source, index, [])).splits.append(split)
    return list(pairs.values())


def _inspect(pair: Pair, data: DataSet) -> Content:
    content = inspect(pair.source, pair.index, len(data.classes))
    splits = tuple(pair.splits)
    return replace(content, findings=[replace(each, splits=splits) for each in content.findings])


def _in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
) -> Iterator[Result]:
    # Not pool.map, which makes all futures at once: memory would grow with the data set.
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) == ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _add(report: Report, pair: Pair, content: Content) -> None:
    for split in pair.splits:
        tally = report.splits[split]
        if content.size is not None:
            tally.sizes[content.size] += 1
        tally.counts += content.counts
        tally.black_and_white.add(content.counts)
        tally.unlabelled += any(each.kind == "all_ignored" for each in content.findings)
    report.findings += content.findings
