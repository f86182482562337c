"""`evaluate`: a checkpoint on a split of a data set, by a named protocol."""
