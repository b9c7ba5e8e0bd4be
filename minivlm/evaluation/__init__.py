"""Evaluation of hallucination: CHAIR on captions, POPE on yes-no questions, in runs that can be repeated."""
