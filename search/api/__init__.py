"""The command line's work in Python, for notebooks and scripts; `search` itself offers it."""
