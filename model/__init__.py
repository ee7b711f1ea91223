"""The network: what a worker loads (`bundle`), how that is scored (`evaluation`) and made (`training`)."""
