"""What a trial minimises, one loss a file; `total` puts a trial's terms together."""
