"""Write metrics.csv: one row for each call of a logger, through kills and resumed runs."""

import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from danet_lightning.disk.writing import write_content
from danet_lightning.errors import RunError, checked

log = logging.getLogger(__name__)

ROWS_BETWEEN_SAVES = 50  # what a kill can take from the file between two checkpoints


class MetricsFile(Logger):
    """Write a CSV file that is replaced as a whole, and go on with the rows in a checkpoint.

    Lightning's CSVLogger deletes the rows of an earlier start, and rewrites the file in place.

    Args:
        save_dir: Folder of the file, which is called metrics.csv.
    """

    @checked
    def __init__(self, save_dir: Path) -> None:
        super().__init__()
        self.path = save_dir / "metrics.csv"
        self._rows: list[dict[str, Any]] = []
        self._text = ""  # of the rows, as last saved
        self._unsaved = 0

    @property
    def name(self) -> str:
        """Return the name that Lightning asks for; no path is made of it."""
        return "metrics"

    @property
    def version(self) -> str:
        """Return no version: there is one file a run."""
        return ""

    @property
    def rows(self) -> str:
        """Save the file and return its content, which a checkpoint keeps in case it is lost."""
        self.save()
        return self._text

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Write nothing: config.yaml has the parameters."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row to the file, which is saved now and then."""
        self._rows.append({**metrics, "step": step})
        self._unsaved += 1
        if self._unsaved >= ROWS_BETWEEN_SAVES:
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
        self._text = text.getvalue()
        write_content(self.path, self._text.encode())
        self._unsaved = 0

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Save the last rows when the run ends."""
        try:
            self.save()
        except RunError as error:  # the disk may be what the run failed of
            if status == "success":
                raise
            log.error(f"{self.path} misses its last rows: {error}")

    @rank_zero_only
    def continue_from(self, rows: str) -> None:
        """Replace the file by the rows in a checkpoint; rows that came after them are dropped.

        Args:
            rows: What `rows` was when the checkpoint was written.
        """
        self._rows = _parse(rows)
        try:
            before = _parse(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, csv.Error):
            before = []
        if before[: len(self._rows)] != self._rows:
            log.warning(
                f"{self.path} does not begin with the checkpoint's rows, because it was changed or "
                "lost, or the folder is another one; it is written anew from the checkpoint."
            )
        if self._rows or self.path.exists():
            self._unsaved = 1
            self.save()


def _parse(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV text; an empty field is a column that only other rows have."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [{key: field for key, field in row.items() if field not in ("", None)} for row in rows]
