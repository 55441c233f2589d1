"""Many trials: launch, sample, stop, record, blend, export. Nothing is loaded here: `--help` answers at once."""
