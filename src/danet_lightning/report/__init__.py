"""The report on runs: which was compared with which, and what came out."""
