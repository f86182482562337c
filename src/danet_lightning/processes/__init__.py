"""Several processes of one command: how they start, agree, share work and end."""
