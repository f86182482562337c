"""`check`: read every file of a data set, and report what is in it and what is wrong with it."""
