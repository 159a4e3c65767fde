"""What the documentation is made of beside its pages: the public API, layouts and hooks, read from the source."""
