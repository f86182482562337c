"""metrics.csv: one row for each call of a logger, through kills and resumed runs."""

import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from danet_lightning.errors import RunError
from danet_lightning.writing import write_atomically

log = logging.getLogger(__name__)

FLUSH_ROWS = 50  # what a kill can lose of the file between two checkpoints


class MetricsFile(Logger):
    """A CSV file that is replaced as a whole, and cut back to a checkpoint's rows on resume.

    Lightning's CSVLogger deletes the rows of an earlier start, and rewrites the file in place.

    Args:
        save_dir: the run folder; the file is called metrics.csv.

    Attributes:
        rows: number of rows written so far.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._rows: list[dict[str, Any]] = []
        self._unsaved = 0

    @property
    def name(self) -> str:
        """Not used: there is one file a run."""
        return "metrics"

    @property
    def version(self) -> str:
        """Not used either."""
        return ""

    @property
    def rows(self) -> int:
        """Number of rows written so far."""
        return len(self._rows)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Leave them out: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        self._rows.append({**metrics, "step": step})
        self._unsaved += 1
        if self._unsaved >= FLUSH_ROWS:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Replace the file; a kill leaves the old one or the new one."""
        if not self._unsaved:
            return
        text = io.StringIO()
        columns = sorted({key for row in self._rows for key in row})
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self.path, lambda file: file.write(text.getvalue().encode()))
        self._unsaved = 0

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Save what is left."""
        try:
            self.save()
        except RunError as error:  # the disk may be what the run failed of
            if status == "success":
                raise
            log.error(f"{self.path} misses its last rows: {error}")

    @rank_zero_only
    def continue_from(self, rows: int) -> None:
        """Keep the first rows of the file, which a checkpoint counted; drop what came after."""
        if self.path.is_file():
            with self.path.open(newline="") as file:
                kept = list(csv.DictReader(file))[:rows]
            # a column that only later rows had is theirs
            self._rows = [{key: text for key, text in row.items() if text != ""} for row in kept]
