"""The model as a worker loads it: a bundle of ONNX graphs, run and explained. No torch."""
