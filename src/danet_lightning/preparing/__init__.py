"""What `prepare` does: download, verify and unpack the archives of a data set."""
