"""Where the time of a training goes, and how much memory it takes."""

import resource
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch


class Meter:
    """Measure a training between two of its records; validations are left out.

    It only reads clocks, so no number of a training depends on it.
    """

    def __init__(self) -> None:
        self._laps: list[dict[str, float]] = []
        self._seconds = self._waited = 0.0  # waited: as the loader counts, of all of the training
        self._steps = self._images = 0
        self._mark = time.perf_counter()

    def go_on(self) -> None:
        """Leave out the time since the last step."""
        self._mark = time.perf_counter()

    def stepped(self, images: int) -> None:
        """Count an optimizer step, for which all processes together took so many images."""
        self._steps += 1
        self._images += images
        before, self._mark = self._mark, time.perf_counter()
        self._seconds += self._mark - before

    def lap(self, device: torch.device, waited: float) -> dict[str, float]:
        """Tell what was measured since the last call, and begin anew.

        Args:
            device: Of the network.
            waited: Seconds that the loader's batches were waited for, since the training began.

        Returns:
            By the names of the metrics: `time/step` in seconds, `time/images_per_second`,
            `time/data_share`, of the time, 0 to 1, and `memory/peak_gib`.
        """
        measured = {"memory/peak_gib": peak_memory(device)}
        if self._steps:
            measured["time/step"] = self._seconds / self._steps
            measured["time/images_per_second"] = self._images / self._seconds
            measured["time/data_share"] = min((waited - self._waited) / self._seconds, 1.0)
            self._laps.append(measured)
        self._seconds, self._waited = 0.0, waited
        self._steps = self._images = 0
        return measured

    def summary(self, device: torch.device) -> dict[str, float | None]:
        """Tell the medians over all records, which the slow first steps do not move.

        Returns:
            By the names that `results.json` has: seconds_per_step, images_per_second, data_share
            (None where too little was trained for a record), and peak_memory_gib.
        """
        names = {
            "seconds_per_step": "time/step",
            "images_per_second": "time/images_per_second",
            "data_share": "time/data_share",
        }
        medians = {
            name: statistics.median(lap[key] for lap in self._laps) if self._laps else None
            for name, key in names.items()
        }
        return {**medians, "peak_memory_gib": peak_memory(device)}


def begin_peak(device: torch.device) -> None:
    """Forget the most memory so far, where that is possible: a sweep runs many in one process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux


def peak_memory(device: torch.device) -> float:
    """Return the most memory in GiB that this process had at once: of its GPU, else of its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**20  # kB
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
