"""`convert`: weights of the authors or of MMSegmentation to a checkpoint."""
