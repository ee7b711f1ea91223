"""The fusion network: training, evaluation, the model bundle and run-time inference."""
