"""The course kit: assignments made of the package itself, with the bodies of a few functions taken out.

A student gets a copy of the package with holes, tests that show what the functions give, and a handout. A teacher
judges what was handed in on inputs from a secret seed, against the installed package.
"""
