"""Evaluation: what is invented (CHAIR) and what is affirmed (POPE), counted so that it can be repeated."""
