"""Data sets, from files or drawn, as samples `{"image", "mask", "id"}` and Lightning loaders."""
