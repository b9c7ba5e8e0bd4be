"""What is fuzzed: each target spoils one kind of input, reads it, and holds the result against another reading of it.

`case` returns True if the input was read, and read right, and False if it was refused with a sentence. It raises
`AssertionError` for a wrong result; whatever else it raises is an error that nobody foresaw.
"""

import argparse
import io
import json
import random
import shutil
import struct
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file
from tokenizers import Tokenizer as RustTokenizer

import minivlm
from minivlm import MinivlmError
from minivlm.checkpoints import load_checkpoint
from minivlm.cli.main import main, make_parser
from minivlm.course.assignments import assignment
from minivlm.course.folder import Folder
from minivlm.course.submission import assemble
from minivlm.evaluation import runner
from minivlm.evaluation.chair import read_captions
from minivlm.evaluation.lexicon import coco_lexicon
from minivlm.evaluation.pope import read_answers, score_answers
from minivlm.evaluation.pope_questions import read_questions
from minivlm.evaluation.records import record_files
from minivlm.evaluation.truth import coco_objects
from minivlm.files import parse_json
from minivlm.inference.trace import Trace
from minivlm.inputs.image import load_image
from minivlm.inputs.picture_limits import PictureLimits
from minivlm.inputs.pictures import FORMATS
from support.fake_run import FakeAsker, describing, fake_card, fake_data
from support.mutations import spoilt_bytes, spoilt_json, spoilt_lines
from support.tiny_model import picture, tiny_folder

SMALL = PictureLimits(pixels=2_000_000)  # a picture takes 3 to 8 bytes a pixel, and is decoded twice here
QUESTION = "Is there a red ball?"
PLAIN = "Is there a dog? Yes, two  cats. é😀"


class Target:
    """One kind of input; `folder` is empty at first, and its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def case(self, chance: random.Random) -> bool:
        """Spoil, read and compare once."""
        raise NotImplementedError

    def refused(self, chance: random.Random) -> bool:
        """Whether the case is refused with a sentence."""
        sentence = ""
        try:
            return not self.case(chance)
        except MinivlmError as error:
            sentence = str(error)
        assert len(sentence) > 20, f"no sentence: {sentence!r}"
        return True


class Shards(Target):
    """model.safetensors: header and weights."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        tiny_folder(folder)
        self.file = folder / "model.safetensors"
        self.data = self.file.read_bytes()
        state = load_checkpoint(folder, device="cpu").model.state_dict()
        tensors = load_safetensors(self.data)
        self.names = {name: next(key for key, one in tensors.items() if equal(one, state[name])) for name in state}

    def case(self, chance: random.Random) -> bool:
        header = 8 + struct.unpack("<Q", self.data[:8])[0]
        data = spoilt_bytes(self.data, chance, first=header) if chance.random() < 0.5 else self.other_weights(chance)
        self.file.unlink()  # not written over: a model that is still there has it mapped
        self.file.write_bytes(data)
        state = load_checkpoint(self.folder, device="cpu").model.state_dict()
        tensors = load_safetensors(data)
        assert all(equal(tensors[key], state[name]) for name, key in self.names.items()), (
            "other weights than the file's"
        )
        return True

    def other_weights(self, chance: random.Random) -> bytes:
        """The file with some bits of its weights flipped: other numbers, or none."""
        data = bytearray(self.data)
        for _ in range(chance.randint(1, 9)):
            data[chance.randrange(len(data) // 2, len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)


class Index(Target):
    """The index of a checkpoint of several shards."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        tiny_folder(folder)
        tensors = load_safetensors((folder / "model.safetensors").read_bytes())
        (folder / "model.safetensors").unlink()
        keys = sorted(tensors)
        parts = {"model-1-of-2.safetensors": keys[::2], "model-2-of-2.safetensors": keys[1::2]}
        for name, own in parts.items():
            save_file({key: tensors[key] for key in own}, folder / name)
        self.file = folder / "model.safetensors.index.json"
        weight_map = {key: name for name, own in parts.items() for key in own}
        self.data = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()
        self.file.write_bytes(self.data)
        self.state = load_checkpoint(folder, device="cpu").model.state_dict()

    def case(self, chance: random.Random) -> bool:
        self.file.write_bytes(spoilt_json(self.data, chance))
        state = load_checkpoint(self.folder, device="cpu").model.state_dict()
        assert all(equal(one, state[name]) for name, one in self.state.items()), "other weights than the shards'"
        return True


class SmallFiles(Target):
    """config.json, the tokenizer's and the preprocessor's files: ids are those of the library, logits are finite, and
    where nothing is said to be other they are those of the files as they were."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        tiny_folder(folder)
        (folder / "special_tokens_map.json").write_text(
            '{"eos_token": "</s>", "additional_special_tokens": ["<image>"]}'
        )
        self.files = {file: file.read_bytes() for file in sorted(folder.glob("*.json"))}
        self.picture = picture(0)
        vlm = minivlm.load(folder, device="cpu")
        self.config, self.pixels = vlm.model.config, vlm.pixels(self.picture)
        self.logits = vlm.logits(self.picture, QUESTION)

    def case(self, chance: random.Random) -> bool:
        file = chance.choice([*self.files])
        file.write_bytes(spoilt_json(self.files[file], chance))
        try:
            vlm = minivlm.load(self.folder, device="cpu")
            spelt = vlm.tokenizer.encode(PLAIN)
            logits = vlm.logits(self.picture, QUESTION)
            assert torch.isfinite(logits).all(), "logits that are no numbers"
            assert spelt == self.library_ids(), "other ids than the library's"
            same = vlm.model.config == self.config and equal(vlm.pixels(self.picture), self.pixels)
            same &= not file.name.startswith(("tokenizer", "special", "generation"))
            assert not same or equal(logits, self.logits), "other logits from the same config and pixels"
            return True
        finally:
            file.write_bytes(self.files[file])

    def library_ids(self) -> list[int]:
        """The text's ids by the library: it has no special tokens in it."""
        definition = json.loads((self.folder / "tokenizer.json").read_text())
        definition |= {"truncation": None, "padding": None, "post_processor": None}
        return RustTokenizer.from_str(json.dumps(definition)).encode(PLAIN, add_special_tokens=False).ids


class Pictures(Target):
    """Picture files of every format and several modes: the pixels are Pillow's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        colours, exif = picture(1, 31, 17), Image.Exif()
        exif[0x0112] = 6  # to be turned
        modes = {"L": colours.convert("L"), "P": colours.convert("P"), "RGBA": colours.convert("RGBA")}
        modes |= {"1": colours.convert("1"), "CMYK": colours.convert("CMYK")}
        written = [(colours, kind, {}) for kind in FORMATS] + [(colours, "JPEG", {"exif": exif, "progressive": True})]
        written += [(modes[mode], "PNG", {}) for mode in ("L", "P", "RGBA", "1")] + [(modes["CMYK"], "JPEG", {})]
        written += [(colours, "GIF", {"save_all": True, "append_images": [modes["L"]]})]
        self.data = [saved(*one) for one in written]

    def case(self, chance: random.Random) -> bool:
        data = spoilt_bytes(chance.choice(self.data), chance, first=chance.choice([None, 60]))
        found = load_image(data, limits=SMALL)
        expected = Image.open(io.BytesIO(data), formats=FORMATS)
        expected.load()
        with suppress(Exception):  # damaged EXIF data: used as stored
            expected = ImageOps.exif_transpose(expected)
        if not expected.mode.startswith("I"):  # more than 8 bits, which Pillow alone would clip
            expected = expected.convert("RGBA") if expected.has_transparency_data else expected
            assert np.array_equal(np.asarray(found), np.asarray(expected.convert("RGB"))), "other pixels than Pillow's"
        return found.mode == "RGB"


class Traces(Target):
    """Saved traces: tensors and facts are those of the file, and can be asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file = folder / "one.safetensors"
        vlm = minivlm.load(tiny_folder(folder / "model"), device="cpu")
        vlm.trace(picture(0), QUESTION, maps=[1], lens=[2], max_new_tokens=3).save(self.file)
        self.data = self.file.read_bytes()
        self.header = struct.unpack("<Q", self.data[:8])[0]

    def case(self, chance: random.Random) -> bool:
        spoil = chance.choice([self.spoilt_file, self.spoilt_facts, self.other_numbers])
        data = spoil(chance)
        self.file.unlink()
        self.file.write_bytes(data)
        trace = Trace.load(self.file)
        tensors = load_safetensors(data)
        assert all(equal(tensors[name], getattr(trace, name)) for name in tensors if "." not in name)
        assert len(trace.pieces) == len(trace.shares), "pieces and rows"
        assert "".join(trace.pieces) == trace.text, "pieces and text"
        return trace.share("image").shape == trace.entropy.shape

    def spoilt_file(self, chance: random.Random) -> bytes:
        return spoilt_bytes(self.data, chance, first=8 + self.header)

    def other_numbers(self, chance: random.Random) -> bytes:
        """The file with other last bits of some numbers, which are shares as before."""
        data = bytearray(self.data)
        for _ in range(chance.randint(1, 9)):
            data[8 + self.header + 8 * chance.randrange((len(data) - 8 - self.header) // 8)] ^= 1
        return bytes(data)

    def spoilt_facts(self, chance: random.Random) -> bytes:
        """The file with the JSON within its header spoilt."""
        header = json.loads(self.data[8 : 8 + self.header])
        facts = spoilt_json(header["__metadata__"]["facts"].encode(), chance)
        header["__metadata__"]["facts"] = facts.decode("utf-8", "replace")
        written = json.dumps(header).encode()
        return struct.pack("<Q", len(written)) + written + self.data[8 + self.header :]


class Runs(Target):
    """The folder of a half run that is resumed: no answer that was whole is lost, and each is there once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.out, self.half = folder / "run", folder / "half"
        self.dataset = fake_data(images=12)
        self.items, self.card = describing(self.dataset), fake_card(self.dataset)
        self.resume(FakeAsker(interrupted_at=6), self.half)
        self.answers = {json.dumps(json.loads(line)) for line in lines_of(self.half)}
        self.resume(FakeAsker(), folder / "whole")
        self.all = len(lines_of(folder / "whole"))

    def resume(self, asker: FakeAsker, out: Path) -> None:
        with suppress(KeyboardInterrupt), redirect_stderr(io.StringIO()):  # it shows how far it is
            runner.run(asker, self.dataset, self.items, self.card, out, resume=out.exists())

    def case(self, chance: random.Random) -> bool:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.half, self.out)
        file = chance.choice(sorted(path for path in self.out.iterdir() if path.stat().st_size))
        spoil = spoilt_lines if file.suffix == ".jsonl" else spoilt_json
        file.write_bytes(spoil(file.read_bytes(), chance))
        before = [line for line in lines_of(self.out) if as_it_was(line) in self.answers]
        try:
            self.resume(FakeAsker(), self.out)
        finally:
            assert set(before) <= set(lines_of(self.out)), "a whole answer was lost"
        assert len(lines_of(self.out)) == self.all, "an answer is missing, or there twice"
        return (self.out / "summary.json").exists()


class DataFiles(Target):
    """Annotations, captions, questions and answers of others: refused, or read to what a plain reading has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        images = [{"id": n, "file_name": f"{n:012}.jpg", "width": 9, "height": 9} for n in range(1, 6)]
        kinds = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dining table"}]
        boxes = [{"id": n, "image_id": n % 5 + 1, "category_id": n % 3 + 1} for n in range(12)]
        asked = [
            {
                "question_id": n,
                "image": f"{n % 5 + 1:012}.jpg",
                "text": f"Is there a {kinds[n % 3]['name']} in the image?",
                "label": "yes" if n % 2 else "no",
            }
            for n in range(9)
        ]
        said = [{"question_id": n, "text": "Yes, there is." if n % 3 else "No."} for n in range(9)]
        self.files = {
            "instances.json": json.dumps({"images": images, "categories": kinds, "annotations": boxes}),
            "sentences.json": json.dumps(
                {"annotations": [{"image_id": n % 5 + 1, "caption": "A dog."} for n in range(9)]}
            ),
            "captions.json": json.dumps([{"image_id": n, "caption": "A dog and a cat."} for n in range(1, 6)]),
            "questions.json": "".join(json.dumps(one) + "\n" for one in asked),
            "answers.jsonl": "".join(json.dumps(one) + "\n" for one in said),
        }
        for name, text in self.files.items():
            (folder / name).write_text(text)

    def case(self, chance: random.Random) -> bool:
        file = self.folder / chance.choice([*self.files])
        usual = self.files[file.name].encode()
        lines = file.name.startswith(("questions", "answers"))
        file.write_bytes((spoilt_lines if lines else spoilt_json)(usual, chance))
        try:
            truth = coco_objects(self.folder / "instances.json", self.folder / "sentences.json", coco_lexicon())
            captions = read_captions(self.folder / "captions.json")
            questions = read_questions(self.folder / "questions.json")
            score_answers(questions, read_answers(self.folder / "answers.jsonl"))
        finally:
            file.write_bytes(usual)
        assert all(isinstance(name, str) for name in truth), "names of images are words"
        assert all(isinstance(text, str) for text in captions.values()), "captions are words"
        return all(isinstance(question.label, bool) for question in questions)


class Submissions(Target):
    """What students hand in: the note and the files of an assignment, gathered into a fresh project."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.row = assignment("a7")  # the tests of the zoo: its project is small
        self.handed = folder / "handed"
        self.note = json.dumps({"assignment": "a7", "version": minivlm.__version__}).encode()

    def case(self, chance: random.Random) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in self.row.handed_in:
            file = self.handed / name
            file.parent.mkdir(parents=True, exist_ok=True)
            self.hand_in(file, chance)
        (self.handed / "assignment.json").write_bytes(spoilt_json(self.note, chance))
        project = self.folder / "project"
        project.mkdir()
        faults = list(assemble(self.row, self.handed, project))
        assert all(isinstance(fault, str) for fault in faults)
        taken = [path for path in project.rglob("*") if path.is_symlink()]
        assert not taken, "a link was taken"
        return Folder.read(self.handed).assignment.name == "a7"

    def hand_in(self, file: Path, chance: random.Random) -> None:
        kind = chance.randrange(6)
        if kind == 0:
            file.symlink_to(chance.choice([file, Path("/etc/passwd"), file.parent, Path("/dev/zero")]))
        elif kind == 1:
            file.mkdir()
        elif kind == 2:
            file.write_bytes(chance.randbytes(200))
        elif kind == 3:
            file.write_bytes(b"#" * 2_000_000)
        elif kind == 4:
            file.write_text("def test_nothing():\n    assert True\n")


class CommandLines(Target):
    """Words behind `minivlm`: exit code 0, 1 or 2 and, for 1 and 2, a sentence; never a traceback."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = str(tiny_folder(folder / "model"))
        picture(0).save(folder / "one.png")
        self.picture = str(folder / "one.png")
        (folder / "no.json").write_text("[")
        self.words = [self.picture, self.model, "a1", "Is there a dog?", "", "0", "-1", "1", "2", "1e400", "nan", "0.5"]
        self.words += ["cpu", "cuda", "mps", "float32", "auto", "1-2", "3:1", "dog,cat", "dog=1:2:9:9", "dog=1", "int8"]
        self.words += [str(folder / "no.json"), str(folder), "/dev/null", "~nosuchuser", "x" * 300, "a\nb", "é😀", "--"]
        # Of the commands those that end soon, whatever is asked of them.
        soon = ("ask", "check", "models", "explore", "evaluate score chair", "evaluate score pope", "evaluate compare")
        self.commands = {command: options_of(command) for command in soon}

    def case(self, chance: random.Random) -> bool:
        command = chance.choice([*self.commands])
        words = [self.picture, QUESTION] if command in ("ask", "explore") and chance.random() < 0.8 else []
        words += [chance.choice(self.words) for _ in range(chance.choice([0, 0, 0, 1, 2]))]
        for option in chance.choices(self.commands[command], k=chance.randrange(4)):
            plain = isinstance(option, argparse._StoreTrueAction) or chance.random() < 0.1
            value = chance.choice([*(option.choices or []), *self.words])
            words += [chance.choice(option.option_strings), *([] if plain else [str(value)])]
        if command in ("ask", "explore"):
            words += ["--model", self.model, "--max-new-tokens", "2"]
        if command == "explore":
            words += ["--out", str(self.folder / "page.html")]
        return self.run([*command.split(), *words])

    def run(self, words: list[str]) -> bool:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main(words)
            except SystemExit as end:
                code = end.code
        said = err.getvalue()
        assert code in (0, 1, 2), (words, code)
        assert code == 0 or said.strip(), (words, "not a word")
        assert "Traceback" not in said or "--debug" in words, (words, said)
        assert "Unexpected" not in said, (words, said)
        return code == 0


def options_of(command: str) -> list[argparse.Action]:
    """The options of a command, without --help."""
    parser = make_parser()
    for word in command.split():
        parser = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[word]
    return [action for action in parser._actions if action.option_strings and action.dest != "help"]


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """The same shape, dtype and numbers."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def saved(image: Image.Image, kind: str, how: dict[str, Any]) -> bytes:
    """The bytes of a picture file."""
    written = io.BytesIO()
    image.save(written, kind, **how)
    return written.getvalue()


def lines_of(out: Path) -> list[str]:
    """The lines of all files of answers."""
    return [line for file in record_files(out) for line in file.read_bytes().decode("latin-1").split("\n") if line]


def as_it_was(line: str) -> str:
    """A line as `Runs.answers` has it; "" if it is no JSON."""
    try:
        return json.dumps(parse_json(line))
    except ValueError:
        return ""


TARGETS = (Shards, Index, SmallFiles, Pictures, Traces, Runs, DataFiles, Submissions, CommandLines)
