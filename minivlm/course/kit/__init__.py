"""What goes along to the student: the tests of the assignments, and what these need to run."""
