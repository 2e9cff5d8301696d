"""Who writes instructions: the grammar, and a vision-language model of real classes at tiny size."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from kontext_slider.errors import CheckpointError
from kontext_slider.train.data.instruct import NOTHING_FITS, GrammarWriter
from kontext_slider.train.data.recipe import CATEGORIES, Rejected
from kontext_slider.train.data.sources import Source, drawn_sources
from kontext_slider.train.data.vision import (
    MAX_TRIES,
    NUM_EXAMPLES,
    REFUSED,
    UNUSABLE,
    VisionModel,
    VisionWriter,
    draw_request,
    parse_answer,
    system_prompt,
)
from kontext_slider.world.edits import EDITS
from tests.tiny import tiny_image

ALL = tuple(CATEGORIES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_grammar_writes_every_category_and_only_what_fits():
    """An instruction for an object that is not in the picture teaches the model to ignore instructions."""
    sources, seen = drawn_sources(48, 16, seed=3), set()
    for index in range(80):
        source = sources(index)
        written = GrammarWriter().write(source, ALL, rng(index))
        edit = EDITS[written.edit]
        assert edit.category == written.category and written.instruction in edit.instructions()
        if source.scene is None:
            assert edit.is_global
        elif edit.kinds:
            nouns = [source.scene.name_of(number) for number in edit.targets(source.scene)]
            assert any(written.instruction in edit.instructions(noun) for noun in nouns)
        seen.add(written.category)
    assert seen == set(ALL), "the world has every category of the paper"


def test_sources_and_words_are_functions_of_seed_and_number():
    """Otherwise an item that is done again after a kill has another picture than its manifest says."""
    one, two = (drawn_sources(48, 16, seed=3)(5) for _ in range(2))
    assert np.array_equal(one.image, two.image)
    assert GrammarWriter().write(one, ALL, rng(1)) == GrammarWriter().write(two, ALL, rng(1))


def test_the_grammar_keeps_to_what_the_model_knows():
    """An edit that the model was not trained for gives a full edit that is none."""
    source = drawn_sources(48, 16, seed=3)(0)
    writer = GrammarWriter(frozenset({"snow"}))
    assert writer.write(source, ALL, rng()).edit == "snow"
    with pytest.raises(Rejected, match=NOTHING_FITS):
        writer.write(source, ["material_change"], rng())


@pytest.mark.parametrize("name", ALL)
def test_prompts_and_examples(name):
    """Four different examples each time, none of which is broken by its own check."""
    category = CATEGORIES[name]
    assert len(set(category.examples)) == len(category.examples) >= 50
    request = draw_request(category, rng())
    drawn = [json.loads(line)["instruction"] for line in request.splitlines() if line.startswith("{")]
    assert len(set(drawn)) == NUM_EXAMPLES and set(drawn) <= set(category.examples)
    assert request == draw_request(category, rng()) != draw_request(category, rng(1))
    assert all(parse_answer(json.dumps({"instruction": text})) == text for text in category.examples)
    assert category.task in system_prompt(category) and "JSON" in system_prompt(category)


@pytest.mark.parametrize(
    "answer",
    [
        '{"instruction": "Make it  snow"}',
        '```json\n{"instruction": "Make it snow"}\n```',
        ' {"instruction": "Make it\\nsnow"} ',
    ],
)
def test_answers_that_are_taken(answer):
    """Models like code fences; line breaks inside an instruction would break captions."""
    assert parse_answer(answer) == "Make it snow"


@pytest.mark.parametrize(
    "answer",
    [
        "Make it snow",
        'Sure! {"instruction": "Make it snow"}',
        '{"instruction": "Make it snow", "category": "x"}',
        '{"instruction": ["Make it snow"]}',
        '{"instruction": "Snow"}',
        '{"instruction": "- make it snow"}',
        json.dumps({"instruction": "make it snow " * 9}),
        "[]",
        "",
    ],
)
def test_answers_that_are_not_taken(answer):
    """Chatter that gets through becomes an instruction that people train on."""
    with pytest.raises(ValueError):
        parse_answer(answer)


class Scripted:
    """A chat model with given answers; keeps its prompts."""

    def __init__(self, *answers: str):
        self.answers, self.prompts = list(answers), []

    def answer(self, system, request, image, seed):
        self.prompts.append((system, request, seed))
        return self.answers.pop(0)


def test_a_bad_answer_is_drawn_again_with_another_seed():
    """The same seed would give the same bad answer."""
    model = Scripted("well", '{"instruction": "Make it snow"}')
    written = VisionWriter(model).write(Source(tiny_image(), "a.png"), ["environment_change"], rng())
    assert (written.instruction, written.category, written.edit) == ("Make it snow", "environment_change", None)
    assert model.prompts[0][:2] == model.prompts[1][:2] and model.prompts[0][2] != model.prompts[1][2]


def test_refusals_and_hopeless_answers_are_rejects_with_what_was_said():
    """Rejects are kept; without the model's words nobody can mend the prompt."""
    source = Source(tiny_image(), "a.png")
    with pytest.raises(Rejected, match="a face") as refused:
        VisionWriter(Scripted('{"refusal": "a face"}')).write(source, ALL, rng())
    assert refused.value.reason == REFUSED
    with pytest.raises(Rejected, match="hm") as unusable:
        VisionWriter(Scripted(*["hm"] * MAX_TRIES)).write(source, ALL, rng())
    assert unusable.value.reason == UNUSABLE


def byte_tokenizer(special: list[str], **roles: str) -> PreTrainedTokenizerFast:
    """It spells bytes; `special` tokens are one number each."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)
    fast.add_tokens(special, special_tokens=True)
    return fast


QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|im_start|>"]
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_qwen(folder, version: str) -> None:
    """Qwen2.5-VL or Qwen3-VL with random weights, in the files of the hub's folders."""
    tokenizer = byte_tokenizer(QWEN_TOKENS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    start, end, image, video, _ = map(tokenizer.convert_tokens_to_ids, QWEN_TOKENS)
    small = {"hidden_size": 32, "intermediate_size": 32}
    text = {
        **small, "vocab_size": len(tokenizer), "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16,
        "num_key_value_heads": 2, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        "bos_token_id": None,
    }  # fmt: skip
    vision = {**small, "depth": 2, "num_heads": 2, "out_hidden_size": 32}
    if version == "3":
        kinds: tuple = (Qwen3VLConfig, Qwen3VLForConditionalGeneration)
        vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    else:
        kinds = (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration)
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
    torch.manual_seed(0)
    numbers = {"image_token_id": image, "video_token_id": video, "vision_start_token_id": start}
    config = kinds[0](text_config=text, vision_config=vision, vision_end_token_id=end, **numbers)
    kinds[1](config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processing = {
        "patch_size": 16 if version == "3" else 14, "temporal_patch_size": 2, "merge_size": 2, "min_pixels": 3136,
        "max_pixels": 12845056, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "image_processor_type": "Qwen2VLImageProcessorFast" if version == "3" else "Qwen2VLImageProcessor",
        "processor_class": "Qwen3VLProcessor" if version == "3" else "Qwen2_5_VLProcessor",
    }  # fmt: skip
    greedy = {"do_sample": True, "temperature": 1e-6, "top_k": 1, "top_p": 0.001}  # as the files of Qwen2.5-VL say
    (folder / "generation_config.json").write_text(json.dumps(greedy | {"eos_token_id": tokenizer.eos_token_id}))
    (folder / "preprocessor_config.json").write_text(json.dumps(processing))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": QWEN_TEMPLATE}))


@pytest.fixture(scope="module")
def llava() -> VisionModel:
    """LLaVA's classes with random weights; its tokenizer spells bytes."""
    fast = byte_tokenizer(["<image>"], eos_token="</s>", pad_token="</s>", bos_token="<s>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
        tokenizer=fast,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(
            "{% for m in messages %}{{ m.role }}: {% for c in m.content %}"
            "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}\n{% endfor %}assistant:"
        ),
    )
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    text = LlamaConfig(
        vocab_size=len(fast), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=fast.bos_token_id, eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=fast.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    return VisionModel(processor, LlavaForConditionalGeneration(config), max_new_tokens=6)


def test_a_real_model_is_asked_through_its_chat_template(llava):
    """Real processor, real generate: the answer is new text only, a function of the seed, and the global random state
    is the caller's own."""
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    request = ("You write.", "Write one.", tiny_image(16, 16))
    first, again, other = (llava.answer(*request, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert first == again != other
    assert "Write" not in first and "assistant" not in first


def test_a_real_models_nonsense_is_a_reject(llava):
    """Random weights never speak JSON; the item has to end as a reject, not as an exception of the parser."""
    with pytest.raises(Rejected) as rejected:
        VisionWriter(llava).write(Source(tiny_image(), "a.png"), ALL, rng())
    assert rejected.value.reason == UNUSABLE


@pytest.mark.parametrize("version", ["2.5", "3"])
def test_qwen_needs_no_torchvision(version, tmp_path):
    """The paper's writer: its processor asks for its part for videos, and that for torchvision, which nothing here
    needs. A folder in the layout of the hub's, answered through the real processor and the real model. And its own
    settings would give every seed one answer, so that a bad one is never mended."""
    write_tiny_qwen(tmp_path, version)
    model = VisionModel.from_pretrained(str(tmp_path), torch.device("cpu"), torch.float32)
    model.max_new_tokens = 6
    first, again, other = (model.answer("You write.", "Write one.", tiny_image(84, 56), seed) for seed in (3, 3, 4))
    assert first == again != other
    with pytest.raises(Rejected) as rejected:
        VisionWriter(model).write(Source(tiny_image(), "a.png"), ALL, rng())
    assert rejected.value.reason == UNUSABLE


def test_a_model_that_is_not_there_is_a_sentence(tmp_path):
    """A typo in --writer."""
    with pytest.raises(CheckpointError, match="--writer grammar"):
        VisionModel.from_pretrained(str(tmp_path / "none"), torch.device("cpu"), torch.float32)
