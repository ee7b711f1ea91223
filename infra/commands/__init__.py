"""The commands of `skyfuse`, one module each; infra.cli mounts them."""
