"""A small model of every family of timm."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .given import CLASSES, Given, Make

# By family: a model, the size of its images, and what makes it small.
FAMILIES: Mapping[str, tuple[str, int, Mapping[str, Any]]] = {
    "beit": (
        "beit_base_patch16_224",
        32,
        {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2},
    ),
    "byoanet": ("lambda_resnet26t", 64, {}),
    "byobnet": ("test_byobnet", 32, {}),
    "cait": ("cait_xxs24_224", 32, {"img_size": 32, "depth": 2}),
    "coat": ("coat_lite_tiny", 32, {"img_size": 32}),
    "convit": ("convit_tiny", 32, {"img_size": 32, "depth": 3, "local_up_to_layer": 2}),
    "convmixer": ("convmixer_768_32", 32, {}),
    "convnext": ("test_convnext", 32, {}),
    "cpubone": ("cpubone_nano", 32, {}),
    "crossvit": (
        "crossvit_9_240",
        240,
        {"depth": ((1, 1, 0),), "embed_dim": (16, 32), "num_heads": (2, 2), "mlp_ratio": (2, 2, 1)},
    ),
    "csatv2": ("csatv2", 64, {}),
    "cspnet": ("darknet17", 32, {}),
    "cspnext": ("cspnext_tiny", 32, {}),
    "davit": (
        "davit_tiny",
        32,
        {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 3, 4)},
    ),
    "deepseek_vit": ("deepseek_vit_412m", 56, {"embed_dim": 32, "depth": 2, "num_heads": 2}),
    "deit": (
        "deit_tiny_distilled_patch16_224",
        32,
        {"img_size": 32, "depth": 2, "embed_dim": 16, "num_heads": 2},
    ),
    "densenet": ("densenet121", 32, {"block_config": (2, 2, 2, 2), "growth_rate": 8}),
    "dla": ("dla46_c", 32, {}),
    "dpn": ("dpn48b", 32, {}),
    "edgenext": ("edgenext_xx_small", 32, {}),
    "efficientformer": ("efficientformer_l1", 224, {"depths": (1, 1, 1, 1)}),
    "efficientformer_v2": ("efficientformerv2_s0", 224, {}),
    "efficientnet": ("test_efficientnet", 32, {}),
    "efficientvim": ("efficientvim_m1", 64, {}),
    "efficientvit_mit": ("efficientvit_b0", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 64, {"img_size": 64}),
    "eva": (
        "eva02_tiny_patch14_224",
        28,
        {"img_size": 28, "depth": 2, "embed_dim": 16, "num_heads": 2},
    ),
    "fasternet": ("fasternet_t0", 32, {}),
    "fastvit": ("fastvit_t8", 64, {}),
    "focalnet": ("focalnet_tiny_srf", 64, {}),
    "gcvit": ("gcvit_xxtiny", 224, {}),
    "gemma4_vit": ("gemma4_vit_167m", 64, {"embed_dim": 32, "depth": 2, "num_heads": 2}),
    "ghostnet": ("ghostnet_050", 32, {}),
    "hardcorenas": ("hardcorenas_a", 64, {}),
    "hgnet": ("hgnetv2_b0", 64, {}),
    "hiera": (
        "hiera_tiny_224",
        64,
        {"img_size": 64, "embed_dim": 8, "num_heads": 1, "stages": (1, 1, 1, 1)},
    ),
    "hieradet_sam2": ("sam2_hiera_tiny", 224, {}),
    "hrnet": ("hrnet_w18_small", 64, {}),
    "iformer": ("iformer_t", 64, {}),
    "inception_next": ("inception_next_atto", 32, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 96, {}),
    "inception_v3": ("inception_v3", 96, {}),
    "inception_v4": ("inception_v4", 96, {}),
    "lcnetv2": ("lcnetv2_small", 32, {}),
    "levit": ("levit_128s", 64, {"img_size": 64}),
    "lowformer": ("lowformer_b0", 64, {}),
    "mambaout": ("test_mambaout", 32, {}),
    "maxxvit": ("test_maxvit", 64, {"img_size": 64}),
    "metaformer": ("poolformer_s12", 32, {}),
    "mlp_mixer": ("mixer_s16_224", 64, {"img_size": 64}),
    "mobilenetv3": ("mobilenetv3_small_050", 64, {}),
    "mobilenetv5": ("mobilenetv5_base", 64, {}),
    "mobilevit": ("mobilevit_xxs", 64, {}),
    "mvitv2": ("mvitv2_tiny", 64, {"img_size": 64}),
    "naflexvit": ("naflexvit_base_patch16_gap", 32, {"embed_dim": 16, "depth": 2, "num_heads": 2}),
    "nasnet": ("nasnetalarge", 96, {}),
    "nest": ("nest_tiny", 64, {"img_size": 64}),
    "nextvit": ("nextvit_small", 64, {}),
    "nfnet": ("test_nfnet", 32, {}),
    "pit": ("pit_ti_224", 64, {"img_size": 64}),
    "pnasnet": ("pnasnet5large", 96, {}),
    "pvt_v2": ("pvt_v2_b0", 32, {}),
    "qwen3_vit": ("qwen3_vit_88m", 32, {"embed_dim": 32, "depth": 2, "num_heads": 2}),
    "rdnet": ("rdnet_tiny", 64, {}),
    "regnet": ("regnetx_002", 32, {}),
    "repghost": ("repghostnet_050", 32, {}),
    "repvit": ("repvit_m0_9", 32, {}),
    "res2net": ("res2net50_48w_2s", 32, {"layers": (1, 1, 1, 1)}),
    "resnest": ("resnest14d", 32, {}),
    "resnet": ("test_resnet", 32, {}),
    "resnetv2": ("resnetv2_18", 32, {}),
    "rexnet": ("rexnet_100", 32, {}),
    "selecsls": ("selecsls42", 64, {}),
    "senet": ("legacy_seresnet18", 32, {}),
    "sequencer": (
        "sequencer2d_s",
        56,
        {
            "img_size": 56,
            "layers": (1, 1, 1, 1),
            "embed_dims": (8, 16, 16, 16),
            "hidden_sizes": (4, 4, 4, 4),
        },
    ),
    "shvit": ("shvit_s1", 64, {}),
    "sknet": ("skresnet18", 32, {}),
    "starnet": ("starnet_s050", 32, {}),
    "swiftformer": ("swiftformer_xs", 64, {"layers": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32]}),
    "swin_transformer": (
        "swin_tiny_patch4_window7_224",
        56,
        {"img_size": 56, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2), "window_size": 7},
    ),
    "swin_transformer_v2": (
        "swinv2_tiny_window8_256",
        64,
        {"img_size": 64, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2)},
    ),
    "swin_transformer_v2_cr": (
        "swinv2_cr_tiny_224",
        64,
        {"img_size": 64, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2)},
    ),
    "tiny_vit": ("tiny_vit_5m_224", 224, {"depths": (1, 1, 1, 1)}),
    "tnt": ("tnt_s_patch16_224", 64, {"img_size": 64, "depth": 2}),
    "tresnet": ("tresnet_m", 64, {}),
    "twins": ("twins_svt_small", 64, {"img_size": 64, "depths": (1, 1, 2, 1)}),
    "vgg": ("vgg11_bn", 32, {"mlp_ratio": 0.05}),
    "visformer": ("visformer_tiny", 64, {"img_size": 64}),
    "vision_transformer": ("test_vit", 64, {"img_size": 64}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64, {"img_size": 64, "depth": 2}),
    "vision_transformer_relpos": ("test_vit_relpos", 64, {"img_size": 64}),
    "vision_transformer_sam": (
        "samvit_base_patch16",
        64,
        {"img_size": 64, "embed_dim": 16, "depth": 2, "num_heads": 2},
    ),
    "vitamin": ("vitamin_small_224", 64, {"img_size": 64}),
    "volo": ("volo_d1_224", 64, {"img_size": 64}),
    "vovnet": ("ese_vovnet19b_slim_dw", 32, {}),
    "xception": ("legacy_xception", 96, {}),
    "xception_aligned": ("xception41", 96, {}),
    "xcit": ("xcit_nano_12_p16_224", 32, {"img_size": 32, "depth": 2}),
}


def loss(made: Any, target: Tensor) -> Tensor:
    """Cross entropy; of a model with several heads that of the first one."""
    scores = made[0] if isinstance(made, (tuple, list)) else made
    return nn.functional.cross_entropy(scores, target)


def given(name: str, size: int, options: Mapping[str, Any]) -> Given:
    """A model without dropout and with all of its layers, as draws are another generator's."""
    timm = importlib.import_module("timm")
    model = timm.create_model(name, num_classes=CLASSES, drop_rate=0.0, **options)
    for module in model.modules():
        if isinstance(module, timm.layers.DropPath):
            module.drop_prob = 0.0
    x, y = torch.randn(2, 3, size, size), torch.randint(CLASSES, (2,))
    return Given(model, loss, (x, y))


TIMM: dict[str, Make] = {family: partial(given, *found) for family, found in FAMILIES.items()}
