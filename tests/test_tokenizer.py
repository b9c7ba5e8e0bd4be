"""Words <-> ids: equal to the checkpoint's own tokenizer, and text never becomes a special token."""

import json
import os
import re
import warnings
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer

from minivlm.errors import ConfigError, PromptError
from minivlm.inputs.tokenizer import Tokenizer
from support.small_tokenizer import added_id, bytes_definition, small_definition, write_small_tokenizer

DEFINITION = small_definition()
SPECIALS = ["<s>", "</s>", "<image>", "<pad>", "<unk>"]
IMAGE = added_id(DEFINITION, "<image>")
ROWS = IMAGE + 20
NAMES = {"bos": "<s>", "eos": "</s>", "pad": "<pad>"}
SMALL = Tokenizer(DEFINITION, image_token_id=IMAGE, vocab_rows=ROWS, names=NAMES)
BYTES = Tokenizer(
    bytes_definition(), image_token_id=added_id(bytes_definition(), "<image>"), vocab_rows=ROWS, names=NAMES
)
both_kinds = pytest.mark.parametrize("tokenizer", [SMALL, BYTES], ids=["byte fallback", "byte level"])
needs_data = pytest.mark.skipif("MINIVLM_TEST_DATA" not in os.environ, reason="MINIVLM_TEST_DATA is not set")

# Text with special tokens and an added word in it, byte by byte odd characters, and halves of characters.
any_text = st.lists(
    st.sampled_from([*SPECIALS, "<act>"]) | st.text(st.characters(exclude_categories=()), max_size=8)
).map("".join)


@cache
def llava() -> Tokenizer:
    folder = Path(os.environ["MINIVLM_TEST_DATA"]) / "llava-1.5-7b-hf"
    return Tokenizer.from_folder(folder, image_token_id=32000, vocab_rows=32064)


# --- text stays text --------------------------------------------------------------------------------------------------


@given(any_text)
@settings(deadline=None, max_examples=200)
def test_no_text_becomes_a_special_token(text):
    forbidden = {added_id(DEFINITION, special) for special in SPECIALS} - {0}  # unk stands for unknown text
    assert forbidden <= SMALL.reserved
    assert forbidden.isdisjoint(SMALL.encode(text))


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_tokens_spelling_survives_as_text(special):
    ids = SMALL.encode(f"a {special} b")
    assert len(ids) > 3
    assert SMALL.decode(ids) == f"a {special} b"
    # The same text given to the tokenizer as it comes does become special: the guard is not vacuous.
    assert added_id(DEFINITION, special) in RustTokenizer.from_str(json.dumps(DEFINITION)).encode(special).ids


def with_words(definition: dict, *words: str, special: bool = False) -> dict:
    """The same tokenizer.json with words added to its vocabulary."""
    first = 1 + max([*definition["model"]["vocab"].values(), *(token["id"] for token in definition["added_tokens"])])
    like = {**definition["added_tokens"][0], "special": special}
    added = [{**like, "id": first + number, "content": word} for number, word in enumerate(words)]
    return {**definition, "added_tokens": [*definition["added_tokens"], *added]}


WORDS = ("<act>", "<box>", "redball")  # the first is in the small tokenizer already
WITH_WORDS = {"byte fallback": with_words(DEFINITION, *WORDS[1:]), "byte level": with_words(bytes_definition(), *WORDS)}


@pytest.mark.parametrize("kind", WITH_WORDS)
@pytest.mark.parametrize("text", ["a <act> b", "<box><box>", "go <act>redball!", "</act> redballs", "a red ball"])
def test_added_words_that_are_not_special_have_the_references_ids(kind, text):
    from transformers import PreTrainedTokenizerFast

    definition = WITH_WORDS[kind]
    ours = Tokenizer(definition, image_token_id=added_id(definition, "<image>"), vocab_rows=ROWS, names=NAMES)
    rust = RustTokenizer.from_str(json.dumps(definition))
    theirs = PreTrainedTokenizerFast(tokenizer_object=rust, add_bos_token=False)
    ids, offsets = ours.encode_with_offsets(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == theirs.decode(ids)
    assert [text[start:stop] for i, (start, stop) in zip(ids, offsets, strict=True) if ours.token(i) in WORDS] == [
        ours.token(i) for i in ids if ours.token(i) in WORDS
    ]
    assert all(ours.is_text(added_id(definition, word)) for word in WORDS)


@pytest.mark.parametrize("name", ["<image>", "<|im_start|>", "<|eot_id|>", "<sep>", "<more>", "</s>"])
def test_what_a_user_may_not_type_is_decided_by_its_name(tmp_path, name):
    definition = json.loads(json.dumps(with_words(DEFINITION, "<|im_start|>", "<|eot_id|>", "<sep>", "<more>")))
    for token in definition["added_tokens"]:
        token["special"] = False
    write_small_tokenizer(tmp_path, definition, sep_token="<sep>", additional_special_tokens=["<more>"])
    tokenizer = from_folder(tmp_path)
    assert added_id(definition, name) in tokenizer.reserved
    assert added_id(definition, name) not in tokenizer.encode(f"a {name} b")
    assert tokenizer.specials_in(f"a {name} <act> b") == [name]
    assert added_id(definition, "<act>") in tokenizer.encode("a <act> b")


def test_an_added_word_without_a_row_is_spelt_in_letters():
    beyond = Tokenizer(DEFINITION, image_token_id=IMAGE, vocab_rows=added_id(DEFINITION, "<act>"), names=NAMES)
    assert added_id(DEFINITION, "<act>") not in beyond.encode("a <act> b")
    assert beyond.decode(beyond.encode("a <act> b")) == "a <act> b"


@both_kinds
@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "▁" not in text))
@settings(deadline=None)
def test_decode_returns_what_was_encoded(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "a\0b", "\ud800", "x\udfff", "😀👩‍👩‍👧", "שלום", "e\u0301", "\n\n", "<0x0A>", "▁"]
)
def test_odd_texts_are_defined(text):
    ids, offsets = SMALL.encode_with_offsets(text)
    assert len(ids) == len(offsets)
    assert (ids == []) == (text == "")
    assert all(0 <= start <= stop <= len(text) for start, stop in offsets)


def test_a_lone_surrogate_becomes_the_replacement_character():
    assert SMALL.encode("a\ud800") == SMALL.encode("a\ufffd")


def test_combining_marks_are_not_composed():
    assert SMALL.decode(SMALL.encode("e\u0301")) == "e\u0301"


def test_a_megabyte_is_encoded_whole():
    text = "a red ball " * 90_000
    assert SMALL.decode(SMALL.encode(text)) == text


def test_a_tokenizer_that_cuts_or_pads_does_so_no_more():
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    cutting = Tokenizer({**DEFINITION, "truncation": truncation}, image_token_id=IMAGE, vocab_rows=ROWS, names=NAMES)
    assert cutting.encode("a red ball and a blue box") == SMALL.encode("a red ball and a blue box")


def test_text_is_not_anything_else():
    with pytest.raises(PromptError, match="Text was expected, found bytes"):
        SMALL.encode(b"bytes")


def test_a_word_list_with_specials_in_it_cannot_be_tricked():
    vocab = {"[UNK]": 0, "dog": 1, "</s>": 2, "<image>": 3}
    added = [{**DEFINITION["added_tokens"][0], "id": vocab[text], "content": text} for text in ("</s>", "<image>")]
    words = {
        **DEFINITION,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    }
    tokenizer = Tokenizer(words, image_token_id=3, vocab_rows=4, names={"eos": "</s>"})
    assert tokenizer.encode("dog </s> <image>") == [1, 0, 0]


# --- decoding as it comes ---------------------------------------------------------------------------------------------


@both_kinds
@given(st.lists(st.integers(0, ROWS - 1), max_size=30))
@settings(deadline=None, max_examples=300)
def test_streamed_pieces_join_to_the_decoded_text(tokenizer, ids):
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids)


@both_kinds
@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "\ufffd" not in text))
@settings(deadline=None)
def test_a_stream_never_shows_half_a_character(tokenizer, text):
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode(text)] + [stream.finish()]
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_stream_gives_words_at_once():
    stream = SMALL.stream()
    words = [stream.push(token) for token in SMALL.encode("a red ball")]
    assert all(words)


def test_special_and_filler_ids_are_not_shown():
    filler = list(range(SMALL.size, ROWS))
    assert filler
    assert SMALL.decode([SMALL.bos, *SMALL.encode("red"), IMAGE, SMALL.pad, *filler, SMALL.eos]) == "red"


@pytest.mark.parametrize("ids", [[-1], [2**40]])
def test_ids_out_of_range_are_left_out(ids):
    assert SMALL.decode(ids) == ""


# --- what a folder says -----------------------------------------------------------------------------------------------


def from_folder(folder: Path, **changes) -> Tokenizer:
    return Tokenizer.from_folder(folder, **{"image_token_id": IMAGE, "vocab_rows": ROWS, **changes})


def test_special_ids_come_from_the_small_files(tmp_path):
    tokenizer = from_folder(write_small_tokenizer(tmp_path))
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (1, 2, added_id(DEFINITION, "<pad>"))
    assert tokenizer.size == IMAGE + 3 < ROWS  # <image>, <pad> and <act> are the last


def test_several_stopping_ids(tmp_path):
    write_small_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    assert from_folder(tmp_path).stops == (2, 7)


def test_ids_of_generation_config_serve_where_names_are_missing(tmp_path):
    write_small_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    tokenizer = from_folder(tmp_path)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (1, 2, 2)


@pytest.mark.parametrize("config", [{"bos_token": None}, {"add_bos_token": False}])
def test_a_checkpoint_without_bos(tmp_path, config):
    write_small_tokenizer(tmp_path, **config)
    (tmp_path / "generation_config.json").write_text('{"bos_token_id": 1}')
    assert from_folder(tmp_path).bos is None


def test_a_bos_that_only_generation_config_knows_starts_no_prompt(tmp_path):
    write_small_tokenizer(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"eos_token": "</s>"}')
    (tmp_path / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    assert from_folder(tmp_path).bos is None


def post_processor(bos: str | None) -> dict:
    """The step of a tokenizer.json that puts the special token `bos` in front, behind another step."""
    text = {"Sequence": {"id": "A", "type_id": 0}}
    first = [] if bos is None else [{"SpecialToken": {"id": bos, "type_id": 0}}]
    specials = {} if bos is None else {bos: {"id": bos, "ids": [added_id(DEFINITION, bos)], "tokens": [bos]}}
    single = {
        "type": "TemplateProcessing",
        "single": [*first, text],
        "pair": [*first, text],
        "special_tokens": specials,
    }
    steps = [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, single]
    return {"type": "Sequence", "processors": steps}


@pytest.mark.parametrize("placed", ["<s>", None])
@pytest.mark.parametrize("said", [True, False, None])
def test_a_bos_starts_prompts_where_the_reference_puts_it(tmp_path, placed, said):
    from transformers import AutoTokenizer

    definition = {**DEFINITION, "post_processor": post_processor(placed)}
    config = {"tokenizer_class": "PreTrainedTokenizerFast"} | ({} if said is None else {"add_bos_token": said})
    write_small_tokenizer(tmp_path, definition, **config)
    theirs = AutoTokenizer.from_pretrained(tmp_path)("a")["input_ids"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert (from_folder(tmp_path).bos == 1) == (theirs[0] == 1) == (placed is not None)
    agree = said in (None, placed is not None)
    sentence = f"tokenizer_config.json says add_bos_token: {str(said).lower()}, but"
    assert [str(one.message).startswith(sentence) for one in told] == [True] * (not agree)


@pytest.mark.parametrize(
    ("said", "of", "puts"),
    [
        (True, "PreTrainedTokenizerFast", True),
        (None, "PreTrainedTokenizerFast", False),
        (None, "LlamaTokenizer", True),
        (None, None, True),
        (False, "LlamaTokenizer", False),
    ],
)
def test_a_bos_that_transformers_would_not_put_is_said(tmp_path, said, of, puts):
    write_small_tokenizer(tmp_path, add_bos_token=said, tokenizer_class=of)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert (from_folder(tmp_path).bos == 1) == puts
    assert [bool(re.search("Prompts begin with <s>.*has no post_processor", str(one.message))) for one in told] == [
        True
    ] * puts


def test_ends_of_answers_that_transformers_does_not_have_are_said(tmp_path):
    write_small_tokenizer(tmp_path, post_processor=None)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    with pytest.warns(
        UserWarning, match=r"tokenizer ends answers with </s>, generation_config.json .* with <0x04>, <0x05>. Here any"
    ):
        assert from_folder(tmp_path).stops == (2, 7, 8)


@pytest.mark.parametrize("ids", [{}, {"eos_token_id": None}])
def test_an_end_that_no_settings_of_generation_name_is_said(tmp_path, ids):
    """Then transformers goes on to the last token that was allowed."""
    write_small_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(ids))
    with pytest.warns(UserWarning, match="tokenizer ends answers with </s>, generation_config.json .* nowhere"):
        assert from_folder(tmp_path).stops == (2,)


def test_an_end_that_only_the_template_has_is_said():
    with pytest.warns(UserWarning, match="template ends answers with <pad>, generation_config.json .* with </s>"):
        Tokenizer(DEFINITION, image_token_id=IMAGE, vocab_rows=ROWS, names=NAMES | {"stops": [2]}).stop_at(
            added_id(DEFINITION, "<pad>")
        )


@pytest.mark.parametrize("named", [True, False])
def test_flags_of_added_words_are_those_of_tokenizer_config(tmp_path, named):
    from transformers import AutoTokenizer

    act = {"content": "<act>", "lstrip": named, "rstrip": named, "special": False}
    act |= {"normalized": False, "single_word": False}
    definition = {**DEFINITION, "added_tokens": [dict(token) for token in DEFINITION["added_tokens"]]}
    next(token for token in definition["added_tokens"] if token["content"] == "<act>")["rstrip"] = not named
    write_small_tokenizer(tmp_path, definition, added_tokens_decoder={str(added_id(DEFINITION, "<act>")): act})
    tokenizer, theirs = from_folder(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("a  <act> \n b") == theirs("a  <act> \n b")["input_ids"]


def test_a_regular_expression_that_never_ends_is_ended():
    """By the library, in a Rust panic: nested repetition tries 2^40 ways."""
    endless = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    definition = {**DEFINITION, "pre_tokenizer": endless}
    tokenizer = Tokenizer(definition, image_token_id=IMAGE, vocab_rows=ROWS, names=NAMES)
    with pytest.raises(PromptError, match=r"failed on a text: PanicException: .*retry-limit"):
        tokenizer.encode("a" * 40 + "!")


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_replacements_that_multiply_a_text_are_refused_before_anything_is_encoded(part):
    doubling = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    steps = {"type": "Sequence", f"{part}s": [doubling] * 22}
    with pytest.raises(ConfigError, match=rf"replacements of its {part} make a text up to 4.19e\+06 times as long"):
        Tokenizer({**DEFINITION, part: steps}, image_token_id=IMAGE, vocab_rows=ROWS, names=NAMES)


def test_a_flag_that_is_neither_true_nor_false_is_refused(tmp_path):
    write_small_tokenizer(tmp_path, added_tokens_decoder={"2": {"content": "</s>", "rstrip": "no"}})
    with pytest.raises(ConfigError, match=r"added_tokens_decoder: rstrip of '</s>' must be true or false, found 'no'"):
        from_folder(tmp_path)


def test_special_tokens_that_only_the_post_processor_knows_are_said(tmp_path):
    write_small_tokenizer(tmp_path, {**DEFINITION, "post_processor": post_processor("</s>")})
    with pytest.warns(UserWarning, match="post_processor of tokenizer.json puts </s> before a text and nothing behind"):
        assert from_folder(tmp_path).bos is None


ONE, TEXT = ({"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}})
PAIR = [TEXT, {"Sequence": {"id": "B", "type_id": 1}}]


def placing(*single: dict, ids: tuple[int, ...] = (1,)) -> dict:
    """A TemplateProcessing with this place for a single text."""
    tokens = {"<s>": {"id": "<s>", "ids": list(ids), "tokens": ["<s>"] * len(ids)}}
    return {"type": "TemplateProcessing", "single": list(single), "pair": PAIR, "special_tokens": tokens}


@pytest.mark.parametrize(
    ("step", "before", "behind"),
    [
        ({"type": "BertProcessing", "cls": ["<s>", 1], "sep": ["</s>", 2]}, "<s>", "</s>"),
        (placing(TEXT, ONE), "nothing", "<s>"),
        (placing(ONE, ONE, TEXT), "<s>, <s>", "nothing"),
        (placing(ONE, TEXT, ids=(1, 1)), "<s>, <s>", "nothing"),
        (placing(ONE, TEXT, ids=(2,)), "</s>", "nothing"),
        (placing(TEXT, TEXT), "nothing", "▁a"),
    ],
    ids=["bert", "behind", "twice", "two ids", "another id", "the text twice"],
)
def test_whatever_a_post_processor_does_beyond_one_bos_is_said(tmp_path, step, before, behind):
    write_small_tokenizer(tmp_path, {**DEFINITION, "post_processor": step})
    with pytest.warns(UserWarning, match=f"puts {before} before a text and {behind} behind it"):
        from_folder(tmp_path)


def test_without_a_generation_config_answers_end_where_config_json_says(tmp_path):
    write_small_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"text_config": {"eos_token_id": [7, 8]}}')
    assert from_folder(tmp_path).stops == (2, 7, 8)
    (tmp_path / "config.json").write_text('{"eos_token_id": 9, "text_config": {"eos_token_id": 7}}')
    assert from_folder(tmp_path).stops == (2, 9)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 6}')
    assert from_folder(tmp_path).stops == (2, 6)


@pytest.mark.parametrize("value", ["2", 2.0, -1, True, [2, "</s>"], {}])
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_an_end_that_is_no_id_is_an_error(tmp_path, file, value):
    write_small_tokenizer(tmp_path)
    (tmp_path / file).write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ConfigError, match=rf"{file}: eos_token_id must be the id of a token, .* found "):
        from_folder(tmp_path)


def test_the_first_llamas_padding_is_none(tmp_path):
    write_small_tokenizer(tmp_path, pad_token=None)
    (tmp_path / "config.json").write_text('{"pad_token_id": -1}')
    assert from_folder(tmp_path).pad == 2


def test_no_end_of_sequence_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="names no end of sequence"):
        from_folder(write_small_tokenizer(tmp_path, eos_token=None))


def test_only_a_sentencepiece_model_names_the_next_step(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"has no tokenizer.json \(tokenizer.model alone is not read\). Copy it"):
        from_folder(tmp_path)


def test_more_words_than_rows_is_an_error(tmp_path):
    with pytest.raises(
        ConfigError, match=rf"largest id is {IMAGE - 1}, but the model's embedding has {IMAGE - 1} rows"
    ):
        from_folder(write_small_tokenizer(tmp_path), vocab_rows=IMAGE - 1)


def test_an_image_id_beyond_the_embedding_is_fine(tmp_path):
    tokenizer = from_folder(write_small_tokenizer(tmp_path), vocab_rows=IMAGE)
    assert tokenizer.size == IMAGE
    assert tokenizer.pad == tokenizer.eos  # <pad> has no row either


@pytest.mark.parametrize("image", [0, 2, 300])  # the unknown token, the end of sequence, a word
def test_an_image_id_that_means_something_else_is_an_error(tmp_path, image):
    with pytest.raises(ConfigError, match=f"image token's id {image} already means"):
        from_folder(write_small_tokenizer(tmp_path), image_token_id=image)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"model": {"type": "BPE"}}', b"\xff\xfe", b"[" * 90_000]
)
def test_a_damaged_tokenizer_is_a_sentence(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        from_folder(tmp_path)


def test_a_huge_tokenizer_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ConfigError, match="1,073,741,824 bytes"):
        from_folder(tmp_path)


def test_a_panic_in_the_library_is_a_sentence(monkeypatch):
    class PanicException(BaseException):  # as Rust panics look from Python
        pass

    def panic(*_args, **_options):
        raise PanicException("index out of bounds")

    tokenizer = Tokenizer(DEFINITION, image_token_id=IMAGE, vocab_rows=ROWS, names=NAMES)
    tokenizer._opening = type("Broken", (), {"encode": panic})()
    with pytest.raises(PromptError, match="PanicException: index out of bounds"):
        tokenizer.encode("text")


@pytest.mark.parametrize("within", [False, True])
def test_a_leading_space_for_the_first_piece_only(within):
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    splitter = {"type": "Sequence", "pretokenizers": [first]} if within else first
    definition = {**DEFINITION, "normalizer": None, "pre_tokenizer": splitter}
    tokenizer = Tokenizer(definition, image_token_id=IMAGE, vocab_rows=ROWS, names=NAMES)
    whole = RustTokenizer.from_str(json.dumps(definition)).encode("red<image>red", add_special_tokens=False).ids
    assert [*tokenizer.encode("red"), IMAGE, *tokenizer.encode("red", opening=False)] == whole
    assert tokenizer.encode("red") != tokenizer.encode("red", opening=False)


# --- the real LLaVA-1.5 -----------------------------------------------------------------------------------------------


@needs_data
def test_pieces_equal_the_recorded_ids():
    file = Path(os.environ["MINIVLM_TEST_DATA"]) / "tokenizers" / "expected_ids.json"
    recorded = json.loads(file.read_text())
    cases = {**recorded["more"], recorded["prompt"]: recorded["hub_tokenizer_json_via_AutoTokenizer_or_tokenizers"]}
    assert len(cases) > 4
    for text, expected in cases.items():
        ids = [llava().bos]
        for piece in text.replace("<image>", "|<image>|").replace("</s>", "|</s>|").split("|"):
            ids += {"<image>": [llava().image], "</s>": [llava().eos]}.get(piece) or llava().encode(piece)
        assert ids == expected, text


@needs_data
def test_real_special_ids():
    tokenizer = llava()
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.image) == (1, 2, 32001, 32000)
    assert tokenizer.size == 32002


@needs_data
@given(any_text)
@settings(deadline=None)
def test_no_text_becomes_special_for_real(text):
    assert {1, 2, 32000, 32001}.isdisjoint(llava().encode(text))


@needs_data
@given(st.lists(st.integers(0, 32063), max_size=20))
@settings(deadline=None)
def test_real_streamed_pieces_join_to_the_decoded_text(ids):
    stream = llava().stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == llava().decode(ids)
