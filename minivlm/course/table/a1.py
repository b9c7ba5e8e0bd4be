"""Assignment a1: the tower and the projector."""

from minivlm.course.row import Assignment, Task

A1 = Assignment(
    name="a1",
    title="The tower and the projector",
    minutes=120,
    holes={
        "model/layers.py": ("quick_gelu",),
        "model/vision.py": (
            "VisionEmbeddings.forward",
            "VisionAttention.forward",
            "VisionBlock.forward",
            "VisionTower.forward",
        ),
        "model/projector.py": ("select_features", "Projector.forward"),
    },
    tasks=(
        Task("test_quick_gelu", 5, "quick_gelu", "The constant has three decimals, and the dtype stays what it was."),
        Task(
            "test_patches_stand_in_reading_order",
            10,
            "VisionEmbeddings.forward",
            "Draw what the convolution gives for a picture of 3 × 3 patches, axis by axis, then flatten row by row.",
        ),
        Task(
            "test_class_token_first_then_positions",
            10,
            "VisionEmbeddings.forward",
            "Position 0 belongs to the class token, position 1 to the first patch.",
        ),
        Task(
            "test_embeddings_of_any_picture",
            5,
            "VisionEmbeddings.forward",
            "In which dtype do pixels come, in which do the tower's weights stand, and what happens to a margin?",
        ),
        Task(
            "test_embeddings_refuse_other_pictures",
            5,
            "VisionEmbeddings.forward",
            "Look at the number of axes before you look at their sizes; raise ImageError before the convolution.",
        ),
        Task(
            "test_attention",
            15,
            "VisionAttention.forward",
            "The scale belongs to the width of a head; heads are contiguous slices of the width.",
        ),
        Task(
            "test_attention_over_many_tokens",
            5,
            "VisionAttention.forward",
            "Which tensor has tokens × tokens × heads numbers, and which function of PyTorch never makes it?",
            seconds=20,
            megabytes=250,
        ),
        Task(
            "test_block_normalises_before_each_branch",
            10,
            "VisionBlock.forward",
            "The straight line from the input to the output passes through no norm.",
        ),
        Task(
            "test_tower_hands_out_its_states",
            10,
            "VisionTower.forward",
            "Four layers have five states, the first of them behind `pre_layrnorm`; a depth of 0 is a depth.",
        ),
        Task(
            "test_features_are_those_named",
            10,
            "select_features",
            "What does -2 mean in a tower of four layers of which only three were computed?",
        ),
        Task("test_projector", 5, "Projector.forward", "This GELU is the exact one."),
        Task(
            "test_a_model_sees",
            10,
            "all seven functions",
            "If all tests above are right: does something cut the path of the gradients?",
        ),
    ),
)
