"""Recordings of the form viommu-capture/1: read, checked, and never trusted."""
