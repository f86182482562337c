"""What `check` does: walk the splits, keep every finding, report."""
