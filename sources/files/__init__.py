"""Folders that are watched: files of readings, and pictures that cameras put there."""
