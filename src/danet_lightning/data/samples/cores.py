"""How many cores there are for reading and decoding."""

import os


def cores() -> int:
    """Return how many cores this process may use; the machine can have more."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows cannot tell
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
