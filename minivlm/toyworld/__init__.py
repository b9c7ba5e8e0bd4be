"""The toy world: small drawn pictures whose objects are known, with captions and questions in English."""

from minivlm.toyworld.bulk import pictures, stream
from minivlm.toyworld.questions import Question, questions
from minivlm.toyworld.scenes import Scene, Thing
from minivlm.toyworld.words import caption, mentions
from minivlm.toyworld.world import CROWDED, HELD_OUT, RARE_COMPANIONS, SUBSTITUTIONS, TRAINING, World

__all__ = [
    "CROWDED",
    "HELD_OUT",
    "RARE_COMPANIONS",
    "SUBSTITUTIONS",
    "TRAINING",
    "Question",
    "Scene",
    "Thing",
    "World",
    "caption",
    "mentions",
    "pictures",
    "questions",
    "stream",
]
