"""What runs it: the local stack, compose, the image of the workers, Grafana with its generator."""
