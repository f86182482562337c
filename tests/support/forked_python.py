"""The interpreter that the tests' commands start others with."""

import sys

from commands import run_in_a_fork

if __name__ == "__main__":
    run_in_a_fork(sys.argv[1:])
