"""Replays recordings of a real kernel's /dev/iommu against a fresh machine, and compares every answer."""
