"""The commands, one file for each group; each has `register`. Nothing heavy is loaded before a command runs."""
