"""The API, version 1: a module for each subject, `router` puts them together."""
