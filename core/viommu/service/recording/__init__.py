"""Runs of programs, kept in files: what came to a machine from outside, in order, and what it made of that."""
