"""Assignment a6: CHAIR and POPE."""

from minivlm.course.row import Assignment, Task

A6 = Assignment(
    name="a6",
    title="CHAIR and POPE",
    minutes=120,
    holes={
        "stats.py": ("Ratio.value",),
        "evaluation/lexicon.py": ("Lexicon._joined",),
        "evaluation/chair.py": ("chair",),
        "evaluation/pope.py": ("said_by_original", "said_by_first_word", "matched", "pope"),
    },
    tasks=(
        Task("test_ratio_of_sums", 8, "Ratio.value", "Add up first, divide once."),
        Task("test_two_words_are_one_object", 10, "_joined", "A hot dog is no dog: what becomes of the second word?"),
        Task("test_phrases_that_overlap", 6, "_joined", "From left to right; a word serves once."),
        Task("test_chair", 14, "chair, value", "Count mentions for CHAIR_i, captions for CHAIR_s, objects for recall."),
        Task("test_silent_captions", 6, "chair, value", "Who says nothing invents nothing, and is a caption still."),
        Task("test_chair_by_image", 6, "chair", "One entry of each part for each caption, in their order."),
        Task("test_what_the_original_reads", 10, "said_by_original", "Blanks alone part words; only commas go."),
        Task("test_what_the_first_word_says", 8, "said_by_first_word", "There is a third answer: None."),
        Task("test_answers_find_their_questions", 8, "matched", "By id, whatever the order."),
        Task("test_answers_that_do_not_fit", 6, "matched", "What if ids are missing, unknown or there twice?"),
        Task("test_pope", 10, "pope, value", "Write down the four counts of yes and no first."),
        Task("test_unreadable_answers", 4, "pope, value", "None is wrong, and no yes."),
        Task("test_pope_by_image", 2, "pope", "Images in the order in which they are first asked about."),
        Task("test_thousands_of_questions", 2, "matched, pope", "No search through a list.", seconds=5.0, times=5.0),
    ),
)
