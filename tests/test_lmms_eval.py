"""The plug-in for lmms-eval: its settings, its messages, its batches, and lmms-eval's own registry where it is there.

Most tests need no lmms-eval: `stand_in` puts three small modules in its place, which mimic what the plug-in touches of
version 0.7 (`lmms` with `rank`, `world_size`, `task_dict` and `clean`; `GenerationResult` and `TokenCounts`; requests
as (text, doc_to_messages, generation settings, document, task, split)). The last tests use the real one, and are
skipped without it. Texts are compared exactly: a row of a batch is answered as if it were alone.
"""

import importlib.metadata
import subprocess
import sys
import types
from dataclasses import dataclass
from importlib.util import find_spec

import pytest
import torch

import minivlm
from minivlm import CLVA, EAH, IMAGE, EvaluationError, Generation, GenerationError, Mitigation, PromptError, Turn
from minivlm.evaluation import lmms_eval as harness
from minivlm.evaluation.settings import UsageError
from support.source_rules import PACKAGE
from support.tiny_model import picture, tiny_folder

ASSISTANT = {"role": "assistant", "content": [{"type": "text", "text": "A red ball."}]}
real = pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval is not installed (pip install lmms-eval)")


@dataclass
class Request:
    """What the plug-in sees of lmms-eval's `Instance`."""

    args: tuple


@dataclass
class TokenCounts:
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass
class GenerationResult:
    text: str
    token_counts: TokenCounts | None = None


class Lmms:
    """What the plug-in uses of lmms-eval's `lmms`."""

    def __init__(self):
        self._rank, self._world_size, self.task_dict, self.cleaned = 0, 1, {}, False

    @property
    def rank(self):
        return self._rank

    def clean(self):
        self.cleaned = True


@pytest.fixture
def stand_in(monkeypatch):
    contents = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Lmms},
        "lmms_eval.api.instance": {"GenerationResult": GenerationResult, "TokenCounts": TokenCounts},
    }
    for name, names in contents.items():
        module = types.ModuleType(name)
        module.__dict__.update(names, __path__=[])
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_folder(tmp_path_factory.mktemp("harness")))


def user(*parts):
    """A message: a text as it is, anything else as a picture."""
    kinds = [("text", "text", part) if isinstance(part, str) else ("image", "url", part) for part in parts]
    return {"role": "user", "content": [{"type": kind, key: part} for kind, key, part in kinds]}


def requests_for(model, talks, wanted):
    """One request for each list of messages, with its generation settings."""
    model.task_dict["toy"] = {"test": talks}
    rows = enumerate(wanted)
    return [Request(("", lambda talk: talk, dict(settings), doc, "toy", "test")) for doc, settings in rows]


# --- answers ----------------------------------------------------------------------------------------------------------

GREEDY = {"max_new_tokens": 12, "temperature": 0.0, "do_sample": False, "until": ["\n\n"], "num_beams": 1, "top_p": 1.0}
SHORT = {"max_new_tokens": 3, "until": []}
TALKS = [
    [user(picture(0), "Is there a dog?")],
    [user(picture(1), "What is in the image? Two cats.")],
    [user("No.")],
    [user(picture(2), picture(3), "What is in the image?")],
    [user("Left: ", picture(2), " right: ", picture(3), " a dog?")],
    [user(picture(4), "What is in the image?"), ASSISTANT, user("Is there a dog?")],
]
ASKED = [
    (picture(0), "Is there a dog?"),
    (picture(1), "What is in the image? Two cats."),
    (None, "No."),
    ([picture(2), picture(3)], "What is in the image?"),
    ([picture(2), picture(3)], [Turn(["Left: ", IMAGE, " right: ", IMAGE, " a dog?"])]),
    (picture(4), [Turn("What is in the image?", "A red ball.", images=1), Turn("Is there a dog?")]),
]


@pytest.mark.parametrize("size", [1, 4, "16"])
def test_each_request_gets_the_answer_that_the_model_gives_alone_in_the_order_of_the_requests(stand_in, folder, size):
    model = harness.Minivlm(folder, batch_size=size, device="cpu")
    wanted = [GREEDY if number % 2 else SHORT for number in range(len(TALKS))]
    results = model.generate_until(requests_for(model, TALKS, wanted))
    vlm = minivlm.load(folder, device="cpu")
    for result, (image, text), settings in zip(results, ASKED, wanted, strict=True):
        stop = tuple(settings["until"])
        alone = vlm.ask(image, text, max_new_tokens=settings["max_new_tokens"], stop=stop)
        assert result.text == alone.text
        assert result.token_counts.output_tokens == len(alone.tokens)
        assert result.token_counts.input_tokens == alone.spans[-1].start
    assert len({result.text for result in results}) > 3  # the answers tell the requests apart


def test_batches_hold_equal_settings_and_never_more_than_their_size(stand_in, folder, monkeypatch):
    model = harness.Minivlm(folder, batch_size=2, device="cpu")
    seen, ask_many = [], minivlm.VLM.ask_many

    def watched(self, images, texts, **how):
        seen.append((len(texts), how["max_new_tokens"]))
        return ask_many(self, images, texts, **how)

    monkeypatch.setattr(minivlm.VLM, "ask_many", watched)
    model.generate_until(requests_for(model, TALKS[:5], [SHORT, GREEDY, SHORT, SHORT, SHORT]))
    assert seen == [(2, 3), (2, 3), (1, 12)]


@pytest.mark.parametrize("method", ["eah", "clva", "both", "clva-random-anchor"])
def test_a_method_with_settings_answers_as_the_model_does_under_it(stand_in, folder, method, monkeypatch):
    settings = {"eah": "layer=2,threshold=0.01", "clva": '"omega=0.9,noise_layers=0,anchor_layers=1,deep_layers=2"'}
    used = {name: text for name, text in settings.items() if method == "both" or method.startswith(name)}
    model = harness.Minivlm(folder, method=method, device="cpu", **used)
    clva = CLVA(omega=0.9, noise_layers=(0,), anchor_layers=(1,), deep_layers=(2,))
    meant = {
        "eah": Mitigation(EAH(layer=2, threshold=0.01)),
        "clva": Mitigation(clva=clva),
        "both": Mitigation(EAH(layer=2, threshold=0.01), clva),
        "clva-random-anchor": Mitigation(clva=CLVA(**vars(clva) | {"anchor": "random"})),
    }[method]
    assert model.mitigation == meant
    seen, ask_many = [], minivlm.VLM.ask_many

    def watched(self, *asked, **how):
        seen.append(how["mitigation"])
        return ask_many(self, *asked, **how)

    monkeypatch.setattr(minivlm.VLM, "ask_many", watched)
    model.generate_until(requests_for(model, TALKS[:1], [SHORT]))
    assert seen == [meant]


def test_the_documents_of_a_batch_are_read_when_it_is_their_turn(stand_in, folder, monkeypatch):
    model, order, ask_many = harness.Minivlm(folder, batch_size=2, device="cpu"), [], minivlm.VLM.ask_many

    def late(talk):
        order.append("read")
        return talk

    def watched(self, *asked, **how):
        order.append("asked")
        return ask_many(self, *asked, **how)

    monkeypatch.setattr(minivlm.VLM, "ask_many", watched)
    requests = requests_for(model, TALKS[:3], [SHORT] * 3)
    model.generate_until([Request((text, late, *rest)) for text, _, *rest in (request.args for request in requests)])
    assert order == ["read", "read", "asked", "read", "asked"]


# --- generation settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({}, Generation(max_new_tokens=99)),
        ({"until": None, "do_sample": False}, Generation(max_new_tokens=99)),
        ({"until": "\n\n", "max_new_tokens": 5}, Generation(5, stop=("\n\n",))),
        ({"until": ["", "."], "max_new_tokens": 5}, Generation(5, stop=(".",))),
        ({"temperature": 0, "top_p": None, "top_k": 3, "seed": 4, "use_cache": True}, Generation(99)),
        ({"temperature": 0.7, "do_sample": False}, Generation(99)),
        ({"temperature": 0.7}, Generation(99, temperature=0.7)),
        ({"do_sample": True}, Generation(99, temperature=1.0)),
        (
            {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "top_k": 5, "seed": 1},
            Generation(99, temperature=0.2, top_p=0.9, top_k=5, seed=1),
        ),
    ],
)
def test_generation_settings_mean_what_they_mean_to_the_harness(wanted, meant):
    assert harness.settings(wanted, 99) == meant


@pytest.mark.parametrize("wanted", [{"num_beams": 5}, {"n": 3}, {"repetition_penalty": 1.2}, {"max_new_tokens": 0}])
def test_generation_settings_that_cannot_be_honoured_are_refused(wanted):
    with pytest.raises(GenerationError, match=next(iter(wanted))):
        harness.settings(wanted, 99)


def test_unknown_generation_settings_are_warned_of():
    with pytest.warns(UserWarning, match="max_frames, typical_p: it changes nothing"):
        harness.settings({"typical_p": 0.5, "max_frames": 8}, 99)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_pictures_in_front_get_a_line_each_and_pictures_among_words_stay_there():
    first, second = picture(0), picture(1)
    assert harness.conversation([user(first, second, "Which?", "Say A or B.")]) == (
        [first, second],
        [Turn("Which?\nSay A or B.", images=2)],
    )
    assert harness.conversation([user("A: ", first, " or B: ", second)]) == (
        [first, second],
        [Turn(["A: ", IMAGE, " or B: ", IMAGE])],
    )
    talk = [user(first, "What?"), ASSISTANT, user(second, "And this?")]
    turns = [Turn("What?", "A red ball.", images=1), Turn("And this?", images=1)]
    assert harness.conversation(talk) == ([first, second], turns)


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([{"role": "user", "content": [{"type": "video", "url": "a.mp4"}]}], "shows video; minivlm takes text and pic"),
        (
            [{"role": "user", "content": [{"type": "audio", "url": "a.wav"}, {"type": "video", "url": "b.mp4"}]}],
            "audio and video",
        ),
        ([{"role": "system", "content": []}, user("a")], "messages by system, user;"),
        ([user("a"), ASSISTANT], "the user first and last"),
        ([user("a"), user("b")], "messages by user, user"),
        ([], "messages by no one"),
        (
            [user("a"), {"role": "assistant", "content": [{"type": "image", "url": picture(0)}]}, user("b")],
            "picture in an answer",
        ),
    ],
)
def test_messages_that_minivlm_cannot_take_are_refused_with_a_sentence(messages, sentence):
    with pytest.raises(PromptError, match=sentence):
        harness.conversation(messages)


# --- model_args -------------------------------------------------------------------------------------------------------


def test_without_a_name_it_is_the_shipped_model(stand_in):
    model = harness.Minivlm(pretrained='""', device="cpu", dtype="float32", max_batch_size=64)
    assert model.vlm.name == minivlm.load(device="cpu").name
    assert (model.device, model.vlm.dtype, model.mitigation) == (torch.device("cpu"), torch.float32, Mitigation())


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"colour": "red"}, EvaluationError, "no 'colour' for minivlm; known are pretrained, method"),
        ({"batch_size": "auto"}, EvaluationError, "found 'auto'"),
        ({"batch_size": 0}, EvaluationError, "found 0"),
        ({"method": "magic"}, EvaluationError, "no method 'magic'"),
        ({"method": "all"}, EvaluationError, "has one method; 'all' stands for plain, eah"),
        ({"method": "plain", "eah": "layer=2"}, EvaluationError, "eah=layer=2, but method=plain does not use eah"),
        ({"method": "eah", "clva": "omega=0.1"}, EvaluationError, "does not use clva"),
        ({"method": "eah", "eah": "leyer=2"}, UsageError, "no setting 'leyer'"),
    ],
)
def test_model_args_that_mean_nothing_are_refused_before_anything_is_loaded(stand_in, given, error, sentence):
    with pytest.raises(error, match=sentence):
        harness.Minivlm(pretrained="no such folder", **given)


def test_rank_and_world_size_are_those_of_the_launcher(stand_in, folder, monkeypatch):
    assert (harness.Minivlm(folder, device="cpu")._rank, harness.Minivlm(folder, device="cpu")._world_size) == (0, 1)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    model = harness.Minivlm(folder, device="cpu")
    assert (model.rank, model._world_size) == (5, 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [harness.own_device(device) for device in (None, "cuda", "cuda:0", "cpu")] == ["cuda:1"] * 2 + [
        "cuda:0",
        "cpu",
    ]
    monkeypatch.delenv("LOCAL_RANK")
    assert [harness.own_device(device) for device in (None, "cuda")] == [None, "cuda"]


def test_other_types_of_task_are_refused_and_the_weights_let_go(stand_in, folder):
    model = harness.Minivlm(folder, device="cpu")
    for refused in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="tasks of type generate_until"):
            refused([])
    model.clean()
    assert model.vlm is None
    assert model.cleaned
    with pytest.raises(EvaluationError, match="released by clean"):
        model.answer([], Generation())


# --- lmms-eval absent -------------------------------------------------------------------------------------------------


def test_without_lmms_eval_the_package_and_the_plug_ins_module_import_and_its_class_says_what_to_install():
    code = """
import sys
sys.modules["lmms_eval"] = None  # as if it were not installed
import minivlm, minivlm.cli.main, minivlm.evaluation.lmms_eval
try:
    minivlm.evaluation.lmms_eval.Minivlm
except minivlm.EvaluationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs lmms-eval" in done.stdout
    assert "pip install lmms-eval" in done.stdout


def test_importing_the_package_or_its_command_never_touches_the_plug_in():
    code = (
        "import sys, minivlm, minivlm.cli.main; "
        "print([name for name in sys.modules if 'lmms' in name or 'harness' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pyproject_publishes_the_plug_in_where_lmms_eval_looks():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    file = PACKAGE.parent / "pyproject.toml"
    if not file.is_file():
        pytest.skip("minivlm is installed without its repository")
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    point = project["entry-points"]["lmms_eval.models"]["minivlm"]
    assert importlib.metadata.EntryPoint("minivlm", point, "lmms_eval.models").load() is harness.manifest
    assert any("lmms-eval" in need for need in project["optional-dependencies"]["harness"])


# --- the real lmms-eval -----------------------------------------------------------------------------------------------


@real
def test_the_registry_of_lmms_eval_takes_the_manifest_and_makes_the_model_that_answers(folder):
    from lmms_eval.api.instance import Instance, unwrap_generation_output
    from lmms_eval.models.registry_v2 import ModelRegistryV2
    from lmms_eval.protocol import ChatMessages

    registry = ModelRegistryV2()
    registry.register_manifest(harness.manifest())
    assert registry.resolve("minivlm").model_type == "chat"
    made = registry.get_model_class("minivlm")
    text = f'pretrained={folder},method=clva,clva="omega=0.6,beta=0.1"'
    model = made.create_from_arg_string(text, {"batch_size": "4", "max_batch_size": None, "device": "cpu"})
    assert model.mitigation == Mitigation(clva=CLVA(omega=0.6, beta=0.1))
    rows = [
        Instance("generate_until", request.args, 0, {"task": "toy", "doc_id": number, "repeats": 1})
        for number, request in enumerate(requests_for(model, TALKS, [GREEDY] * len(TALKS)))
    ]
    found = [unwrap_generation_output(result) for result in model.generate_until(rows)]
    for (text, counts), (image, asked), talk in zip(found, ASKED, TALKS, strict=True):
        ChatMessages(messages=talk)  # these are messages in lmms-eval's eyes
        alone = model.vlm.ask(image, asked, max_new_tokens=12, stop="\n\n", mitigation=model.mitigation)
        assert (text, counts.output_tokens) == (alone.text, len(alone.tokens))


@real
def test_lmms_eval_finds_the_installed_plug_in_by_itself():
    if not importlib.metadata.entry_points(group="lmms_eval.models", name="minivlm"):
        pytest.skip("minivlm was installed before it had this entry point: install it again")
    from lmms_eval.models import get_model, list_available_models

    assert "minivlm" in list_available_models()
    assert issubclass(get_model("minivlm"), harness.ChatModel)
