"""Cameras that are asked for pictures: a snapshot's address, an MJPEG or RTSP stream."""
