"""Training: backbones, heads, cross-validation, export (torch; the `train` extra). No worker comes here."""
