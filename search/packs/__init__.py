"""Head-only searches: a worker trains many trials' heads together, so that hundreds of them run in a minute."""
