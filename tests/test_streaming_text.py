"""The writer: from tokens to the text of an answer, piece by piece."""

from itertools import product

import pytest

from minivlm.inference.generate import Generation
from minivlm.inference.streaming_text import StreamingText
from minivlm.inputs.tokenizer import Tokenizer
from support.small_tokenizer import write_small_tokenizer

END = 0


class Spelling:
    """Stands for a tokenizer whose tokens are the given texts; token 0 ends an answer."""

    stops = (END,)

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def stream(self) -> "Spelling":
        return self

    def push(self, token: int) -> str:
        return self.pieces[token - 1]

    def finish(self) -> str:
        return ""


def write(pieces: list[str], *stops: str, finish: str = "length") -> tuple[StreamingText, list[str]]:
    """A writer that was given all pieces, and what it gave out at each of them and at the end."""
    writer = StreamingText(Spelling(pieces), Generation(stop=stops))
    given = [writer.push(token) for token in range(1, len(pieces) + 1)]
    return writer, [*given, writer.close(finish)]


def all_cuts(text: str):
    """Every way to cut a text into pieces."""
    for borders in product((False, True), repeat=len(text) - 1):
        pieces = [text[0]]
        for letter, border in zip(text[1:], borders, strict=True):
            pieces = [*pieces, letter] if border else [*pieces[:-1], pieces[-1] + letter]
        yield pieces


@pytest.mark.parametrize("stops", [("cd",), ("###",), ("ab", "bc"), ("a#",), ("xyz",), ("dab",), ()], ids=str)
@pytest.mark.parametrize("text", ["abcdab", "a##ab###b", "  aaa# b", "ddabdab"])
def test_however_tokens_cut_the_text_it_ends_where_the_first_stop_text_begins(text, stops):
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    expected = text[: min(places)] if places else text
    for pieces in all_cuts(text):
        writer, given = write(pieces, *stops)
        assert writer.text == "".join(given) == expected.lstrip(), pieces
        assert writer.finish == ("stop" if places else "length")


def test_text_is_held_back_only_while_it_may_be_a_stop_text():
    _, given = write(["Yes", ", a", " #", "#", "!", " #", "##"], "###")
    assert given == ["Yes", ", a", " ", "", "##!", " ", "", ""]


def test_what_was_held_back_is_given_out_at_the_end():
    writer, given = write(["Yes #", "#"], "###", finish="interrupted")
    assert given == ["Yes ", "", "##"]
    assert writer.finish == "interrupted"
    writer, given = write(["Yes #"], "###")
    assert "".join(given) == "Yes #"


def test_without_stop_texts_nothing_is_held_back():
    assert write(["Yes", ", ", "a dog"])[1] == ["Yes", ", ", "a dog", ""]


def test_an_answer_does_not_begin_with_space():
    writer, given = write([" ", "\n ", " A", " b ", "c "])
    assert given == ["", "", "A", " b ", "c ", ""]
    assert writer.text == "A b c "


def test_after_a_stop_nothing_more_is_taken():
    writer, given = write(["Yes", "##", "#No", "No"], "###")
    assert given == ["Yes", "", "", "", ""]
    assert writer.tokens == [1, 2, 3]  # with the stop text, without what came behind it
    assert writer.finish == "stop"


def test_a_stop_token_ends_the_answer_and_releases_what_was_held_back():
    writer = StreamingText(Spelling(["Yes", " #"]), Generation(stop="###"))
    assert [writer.push(token) for token in (1, 2, END, 1)] == ["Yes", " ", "#", ""]
    assert (writer.text, writer.finish, writer.tokens) == ("Yes #", "stop", [1, 2, END])
    assert writer.close("length") == ""
    assert writer.finish == "stop"


def test_an_answer_may_be_empty():
    writer = StreamingText(Spelling([]), Generation())
    assert writer.push(END) == writer.text == ""
    assert (writer.finish, writer.tokens) == ("stop", [END])
    assert write([], finish="interrupted")[0].finish == "interrupted"


# --- with a real tokenizer: characters of several byte tokens ---------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = write_small_tokenizer(tmp_path_factory.mktemp("words"))
    image = Tokenizer.from_folder(folder, image_token_id=10**6, vocab_rows=10**6)._rust.token_to_id("<image>")
    return Tokenizer.from_folder(folder, image_token_id=image, vocab_rows=10**6)


@pytest.mark.parametrize("text", ["A red ball.", "Zoë saw 🦊🦊 and 犬", "犬", "…a", "a b  c\nd "])
def test_pieces_joined_are_the_text(tokenizer, text):
    ids = tokenizer.encode(text)
    writer = StreamingText(tokenizer, Generation())
    given = [writer.push(token) for token in ids]
    given.append(writer.close("length"))
    assert "".join(given) == writer.text == tokenizer.decode(ids) == text
    assert not any("\ufffd" in piece for piece in given)
    assert writer.tokens == ids


def test_a_character_is_given_out_whole(tokenizer):
    ids = tokenizer.encode("a 🦊 b")
    writer = StreamingText(tokenizer, Generation())
    given = [writer.push(token) for token in ids]
    assert sum("🦊" in piece for piece in given) == 1
    assert len(ids) > 5  # the fox alone takes four byte tokens


def test_a_cut_character_shows_as_such(tokenizer):
    ids = tokenizer.encode("ball 🦊")
    writer = StreamingText(tokenizer, Generation())
    given = "".join(writer.push(token) for token in ids[:-1])
    assert "\ufffd" not in given
    assert "\ufffd" in writer.close("length")
    assert writer.text == tokenizer.decode(ids[:-1])


@pytest.mark.parametrize("stop", ["🦊", "ll 🦊", "🦊 b", " 犬"])
def test_stop_texts_of_byte_tokens(tokenizer, stop):
    text = "a ball 🦊 bu 犬 end"
    writer = StreamingText(tokenizer, Generation(stop=stop))
    given = [writer.push(token) for token in tokenizer.encode(text)]
    given.append(writer.close("length"))
    assert writer.finish == "stop"
    assert "".join(given) == writer.text == text[: text.index(stop)]
