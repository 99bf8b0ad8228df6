"""Small models of transformers, called as their users call them: ``model(**batch).loss``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .given import Given, Make, tokens

V, LENGTH = 61, 7
SMALL: Mapping[str, Any] = {
    **{"vocab_size": V, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "max_position_embeddings": 32},
}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
NO_DROPOUT = (
    *("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "dropout", "hidden_dropout"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "activation_dropout", "embed_dropout"),
    *("dropout_rate", "classifier_dropout", "seq_classif_dropout", "summary_first_dropout"),
    *("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "feat_proj_dropout", "final_dropout"),
    *("attention_probs_dropout", "classifier_dropout_prob", "drop_path_rate", "resid_dropout"),
)


class Called(nn.Module):
    """A model with its inputs by name, the last of which are the labels."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *parts: Tensor) -> Any:
        return self.model(**dict(zip(self.names, parts, strict=True)))


def loss(made: Any, labels: Tensor) -> Tensor:
    """The one that the model has computed of its labels."""
    lost: Tensor = made.loss
    return lost


def given(model: str, options: Mapping[str, Any], batch: Mapping[str, Tensor], head: str) -> Given:
    """A model of a configuration, without dropout."""
    transformers = importlib.import_module("transformers")
    config = getattr(transformers, f"{model}Config")(**options)
    for name in NO_DROPOUT:
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, 0.0)
    made = getattr(transformers, f"{model}{head}")(config)
    if torch.get_default_dtype() == torch.float64 and hasattr(made, "set_experts_implementation"):
        made.set_experts_implementation("batched_mm")  # torch's grouped product has no float64
    labels = batch["labels"]
    return Given(Called(made, tuple(batch)), loss, (*batch.values(), labels))


def text() -> dict[str, Tensor]:
    """Tokens, of which the second row ends earlier."""
    ids, mask = tokens(V - 3, 2, LENGTH) + 3, torch.ones(2, LENGTH, dtype=torch.int64)
    ids[1, 5:], mask[1, 5:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def of_words(model: str, head: str = "ForCausalLM", **options: Any) -> Given:
    """A language model, whose labels are its inputs without the padding."""
    batch = text()
    labels = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)
    return given(model, options, {**batch, "labels": labels}, head)


def of_texts(model: str, head: str = "ForSequenceClassification", **options: Any) -> Given:
    """A class for each text."""
    return given(model, options, {**text(), "labels": torch.tensor([0, 1])}, head)


def of_places(model: str, head: str, **options: Any) -> Given:
    """A class, or a word, for each token."""
    labels = torch.where(torch.rand(2, LENGTH) < 0.5, tokens(2, 2, LENGTH), -100)
    return given(model, options, {**text(), "labels": labels}, head)


def of_images(model: str, size: int = 16, **options: Any) -> Given:
    """A class for each image."""
    batch = {"pixel_values": torch.randn(2, 3, size, size), "labels": torch.tensor([0, 1])}
    return given(model, options, batch, "ForImageClassification")


def of_pairs(model: str, **options: Any) -> Given:
    """A text for each text."""
    labels = tokens(V - 3, 2, 5) + 3
    return given(model, options, {**text(), "labels": labels}, "ForConditionalGeneration")


def of_sound(model: str, **options: Any) -> Given:
    """A class for each sound."""
    batch = {"input_values": torch.randn(2, 300), "labels": torch.tensor([0, 1])}
    return given(model, options, batch, "ForSequenceClassification")


GROUPED = {**SMALL, **ENDS, "num_key_value_heads": 1}
OPEN = {"bos_token_id": 1, "eos_token_id": 2}
GPT = {"vocab_size": V, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, **OPEN}
BART = {
    **{"vocab_size": V, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1},
    **{"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "max_position_embeddings": 32, **ENDS},
}
PATCHES = {
    **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "image_size": 16, "patch_size": 4},
}
DISTIL = {"vocab_size": V, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
T5 = {"vocab_size": V, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
WAVES = {
    **{"vocab_size": V, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3)},
    **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
    **{"num_feat_extract_layers": 2, "mask_time_prob": 0.0},
}
PAD, MAMBA = {"pad_token_id": 0}, {"state_size": 4, "time_step_rank": 2}
ROBERTA = {**SMALL, **OPEN, "pad_token_id": 1, "max_position_embeddings": 40}
SWIN = {"patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
STAGES = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
NEO = {"attention_types": [[["global", "local"], 1]], "window_size": 4, "num_layers": 2}
OPT = {"hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def make(how: Callable[..., Given], model: str, *parts: Mapping[str, Any], **more: Any) -> Make:
    """A model of several parts of a configuration."""
    options = {k: v for part in (*parts, more) for k, v in part.items()}
    return partial(how, model, **options)


HUGGING: dict[str, Make] = {
    "GPT-2": make(of_words, "GPT2", GPT, head="LMHeadModel"),
    "Llama": make(of_words, "Llama", GROUPED),
    "Qwen2": make(of_words, "Qwen2", GROUPED),
    "Qwen3": make(of_words, "Qwen3", GROUPED, head_dim=8),
    "Gemma": make(of_words, "Gemma", GROUPED, head_dim=8),
    "Gemma2": make(of_words, "Gemma2", GROUPED, head_dim=8, sliding_window=4),
    "Mistral": make(of_words, "Mistral", GROUPED, sliding_window=4),
    "Mixtral": make(of_words, "Mixtral", GROUPED, num_local_experts=3),
    "GPT-NeoX": make(of_words, "GPTNeoX", SMALL, OPEN),
    "Phi": make(of_words, "Phi", SMALL, OPEN),
    "Phi3": make(of_words, "Phi3", GROUPED),
    "OPT": make(
        of_words, "OPT", OPT, ENDS, vocab_size=V, word_embed_proj_dim=16, max_position_embeddings=32
    ),
    "BLOOM": make(of_words, "Bloom", OPEN, vocab_size=V, hidden_size=16, n_layer=2, n_head=2),
    "GPT-Neo": make(
        of_words,
        "GPTNeo",
        NEO,
        OPEN,
        vocab_size=V,
        hidden_size=16,
        num_heads=2,
        max_position_embeddings=32,
    ),
    "GPT-J": make(of_words, "GPTJ", GPT, rotary_dim=4),
    "Falcon": make(of_words, "Falcon", SMALL, OPEN),
    "StableLM": make(of_words, "StableLm", GROUPED),
    "OLMo": make(of_words, "Olmo", GROUPED),
    "Granite": make(of_words, "Granite", GROUPED),
    "Mamba": make(
        of_words, "Mamba", MAMBA, ENDS, vocab_size=V, hidden_size=16, num_hidden_layers=1
    ),
    "BERT": make(of_texts, "Bert", SMALL, PAD),
    "BERT, masked": make(of_places, "Bert", SMALL, PAD, head="ForMaskedLM"),
    "BERT, tokens": make(of_places, "Bert", SMALL, PAD, head="ForTokenClassification"),
    "DistilBERT": make(of_texts, "DistilBert", DISTIL, max_position_embeddings=32),
    "RoBERTa": make(of_texts, "Roberta", ROBERTA),
    "ALBERT": make(of_texts, "Albert", SMALL, PAD, embedding_size=8),
    "ELECTRA": make(of_texts, "Electra", SMALL, PAD, embedding_size=8),
    "DeBERTa": make(of_texts, "DebertaV2", SMALL, PAD),
    "ModernBERT": make(of_texts, "ModernBert", SMALL, ENDS, cls_token_id=1, sep_token_id=2),
    "T5": make(of_pairs, "T5", T5, decoder_start_token_id=0),
    "BART": make(of_pairs, "Bart", BART, decoder_start_token_id=2),
    "ViT": make(of_images, "ViT", PATCHES),
    "DeiT": make(of_images, "DeiT", PATCHES),
    "BEiT": make(of_images, "Beit", PATCHES),
    "DINOv2": make(of_images, "Dinov2", PATCHES),
    "Swin": make(of_images, "Swin", SWIN, size=32, image_size=32),
    "ConvNeXt": make(of_images, "ConvNext", STAGES, size=32, image_size=32),
    "ResNet": make(of_images, "ResNet", STAGES, size=32, embedding_size=8, layer_type="basic"),
    "Wav2Vec2": make(of_sound, "Wav2Vec2", WAVES),
    "HuBERT": make(of_sound, "Hubert", WAVES),
}
