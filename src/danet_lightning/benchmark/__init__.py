"""What `benchmark` measures: the data path, from a file to a sample."""
