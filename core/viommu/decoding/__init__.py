"""Bytes and log lines, as people paste them, explained."""
