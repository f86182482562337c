"""What a job says to SLURM."""

import logging
import os
import subprocess

log = logging.getLogger(__name__)


def is_job() -> bool:
    """Tell whether this process belongs to a SLURM job."""
    return "SLURM_JOB_ID" in os.environ


def requeue() -> None:
    """Ask SLURM to run this job once more; it says in the log whether it will."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        log.error(f"SLURM job {job} was not requeued ({error}); run the same command again.")
    else:
        log.warning(f"SLURM job {job} is requeued and will go on.")
