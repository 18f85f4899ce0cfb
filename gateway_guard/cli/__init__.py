"""The command line, one module a verb; each adds itself with `register(app)`."""
