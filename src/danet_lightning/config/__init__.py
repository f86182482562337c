"""From a command line to a checked configuration: the one way into Hydra."""
