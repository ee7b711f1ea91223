"""Addresses that are asked for readings: vendors' clouds, devices with a web server of their own."""
