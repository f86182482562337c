"""Files of any kind: their names, how they are written whole, who holds a folder."""
