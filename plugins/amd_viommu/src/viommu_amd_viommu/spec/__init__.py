"""Bit layouts, as AMD 48882 prints them."""
