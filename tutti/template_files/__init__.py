"""The files that `tutti init` copies."""
