"""From pixels to augmented batches."""
