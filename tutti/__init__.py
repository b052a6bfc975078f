"""The composition root: one command line, one Python API, runs that put a server and a fleet together."""
