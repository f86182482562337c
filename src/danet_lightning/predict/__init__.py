"""`predict`: index PNGs and overlays of images."""
