"""Thin Faust agents: one per stage of the flow."""
