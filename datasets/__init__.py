"""Folders of frames and readings on disk, for replay, backfill and training alike. They send nothing."""
