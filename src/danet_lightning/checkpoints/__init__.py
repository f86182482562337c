"""What a checkpoint file is: what it says of itself, how it is written, read and rebuilt."""
