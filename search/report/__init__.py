"""A search on one page: what was searched, what came of it, what to expect of that, and what to try next."""
