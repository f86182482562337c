"""`prepare`: download, verify and unpack a data set."""
