"""Recordings held against our models, and what we say where they differ."""
