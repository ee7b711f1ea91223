"""The command line: one module for each command of `skyfuse`, mounted by `main`."""
