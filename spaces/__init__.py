"""What may vary: the settings of a trial and the language of search spaces. Plain Python."""
