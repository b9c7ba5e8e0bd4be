"""The table of assignments, a file for each row."""
