"""Runs that were recorded, repeated without their programs; and where a repetition first differs."""
