"""The model, a neural network: what a worker loads (`bundle`), how it is scored (`evaluation`) and made
(`training`).
"""
