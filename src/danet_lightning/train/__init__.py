"""`train`: fit a network, then evaluate its best checkpoint."""
