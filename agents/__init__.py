"""Thin Faust agents, one per stage of the flow, and the worker that runs them."""
