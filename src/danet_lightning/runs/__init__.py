"""Run folders as they lie on the disk: what each says of itself, and which belong together."""
