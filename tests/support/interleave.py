"""A tiny checkpoint as llava-interleave-qwen is, written by transformers: SigLIP, Qwen2, ChatML, a tied head."""

from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from support.small_tokenizer import CORPUS
from support.tiny_hf import tiny_hf_model

SIZE, PATCH = 30, 8  # 3 x 3 patches; 6 pixels at the right and at the bottom are never seen
MERGES = 60
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
# As the files of llava-interleave-qwen-0.5b-hf write conversations down: without and with marks for training.
HEAD = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}{# Render all images first #}"
IMAGES = "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
LOOP = "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
SAID = "{{ '\\n' + content['text'] }}"
TAIL = "{{'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
TEXTS = "{# Render all text next #}"
CHATML = f"{HEAD}{IMAGES}{TEXTS}{LOOP}{SAID}{{% endfor %}}{TAIL}"
CHATML_MARKED = (
    f"{HEAD}{IMAGES}{TEXTS}{{% if message['role'] != 'assistant' %}}{LOOP}{SAID}{{% endfor %}}{{% else %}}"
    f"{LOOP}{{% generation %}}{SAID}{{% endgeneration %}}{{% endfor %}}{{% endif %}}{TAIL}"
)


def byte_level_tokenizer() -> Any:
    """A PreTrainedTokenizerFast: letters are bytes, as in Qwen2; nothing is put in front of a prompt."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + MERGES, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(list(SPECIALS))
    named = {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "extra_special_tokens": {"image_token": "<image>"},
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **named)


def write_interleave(folder: Path, **overrides) -> tuple[Any, Any]:
    """Write the checkpoint; returns the model and the processor as they are in memory."""
    from transformers import LlavaProcessor, SiglipImageProcessorPil

    tokenizer = byte_level_tokenizer()
    rows = len(tokenizer) + 20  # rows of the embedding without a token, as the real one has 353
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    model = tiny_hf_model(
        "qwen2",
        tower="siglip",
        vision={"image_size": SIZE, "patch_size": PATCH},
        text={"vocab_size": rows, "tie_word_embeddings": True, "max_position_embeddings": 512, **ends},
        tie_word_embeddings=True,
        vision_feature_layer=-1,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        **overrides,
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    image_processor = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=CHATML,
        num_additional_image_tokens=0,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def messages(turns: list[tuple[str, int, str | None]]) -> list[dict]:
    """Turns (question, pictures, answer) as transformers' chat templates take them."""
    told = []
    for question, pictures, answer in turns:
        content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
        told.append({"role": "user", "content": content})
        if answer is not None:
            told.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return told


def photo(width: int, height: int) -> Image.Image:
    """A picture with something everywhere."""
    red, green = Image.linear_gradient("L"), Image.radial_gradient("L")
    return Image.merge("RGB", (red, green, red.rotate(90))).resize((width, height))
