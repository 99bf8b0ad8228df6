"""Operators of onnxruntime's own domain, which its optimizers fuse transformers into."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..definitions import NodeResults, onnx_op
from ..graph import MICROSOFT, OnnxNode

SHARED = "shares keys and values with other calls; export the network without a cache of them"


@onnx_op("Gelu", domain=MICROSOFT)
def microsoft_gelu(node: OnnxNode, x: Tensor) -> NodeResults:
    """By erf."""
    return F.gelu(x)


@onnx_op("QuickGelu", domain=MICROSOFT)
def quick_gelu(node: OnnxNode, x: Tensor) -> NodeResults:
    """x sigmoid(alpha x)"""
    return x * torch.sigmoid(x * node.number("alpha", 1.702))


@onnx_op("FastGelu", domain=MICROSOFT, weights=["bias"])
def fast_gelu(node: OnnxNode, x: Tensor, bias: Tensor | None = None) -> NodeResults:
    """By tanh, with a bias ahead of it."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@onnx_op("BiasGelu", domain=MICROSOFT, weights=["bias"])
def bias_gelu(node: OnnxNode, x: Tensor, bias: Tensor) -> NodeResults:
    """By erf, with a bias ahead of it."""
    return F.gelu(x + bias)


@onnx_op("SkipLayerNormalization", domain=MICROSOFT, weights=["gamma", "beta", "bias"])
def skip_layer_normalization(
    node: OnnxNode,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> NodeResults:
    """The sum of both and a bias, normalized; the sum is the fourth result."""
    total = x + skip if bias is None else x + skip + bias
    eps = node.number("epsilon", 1e-12)
    y = F.layer_norm(total, gamma.shape, gamma, beta, eps)
    return _results(node, y, total)


@onnx_op("SkipSimplifiedLayerNormalization", domain=MICROSOFT, weights=["gamma", "bias"])
def skip_simplified_layer_normalization(
    node: OnnxNode, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None
) -> NodeResults:
    """The same by the root of the mean square."""
    total = x + skip if bias is None else x + skip + bias
    square = (total * total).mean(-1, keepdim=True)
    y = total * torch.rsqrt(square + node.number("epsilon", 1e-5)) * gamma
    return _results(node, y, total)


def _results(node: OnnxNode, y: Tensor, total: Tensor) -> NodeResults:
    if any(node.outputs[1:3]):
        node.refuse("gives mean and deviation; a step has neither here")
    return (y, y, y, total) if len(node.outputs) > 3 else y


@onnx_op(
    "EmbedLayerNormalization",
    domain=MICROSOFT,
    weights=["words", "positions", "segments", "gamma", "beta"],
)
def embed_layer_normalization(
    node: OnnxNode,
    ids: Tensor,
    kinds: Tensor | None,
    words: Tensor,
    positions: Tensor,
    segments: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    places: Tensor | None = None,
) -> NodeResults:
    """Embeddings of words, positions and segments, normalized; also how long each row is."""
    at = torch.arange(ids.shape[1], device=ids.device) if places is None else places
    total = F.embedding(ids, words) + F.embedding(at, positions)
    if kinds is not None and segments is not None:
        total = total + F.embedding(kinds, segments)
    y = F.layer_norm(total, gamma.shape, gamma, beta, node.number("epsilon", 1e-12))
    lengths = ids.new_zeros(ids.shape[0]) if mask is None else mask.sum(1)
    return (y, lengths, total) if len(node.outputs) > 1 else y


def _attention(
    node: OnnxNode, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Attention in heads, of sequences ``[batch, time, features]``."""
    heads = node.whole("num_heads")

    def split(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)

    q, k, v = split(q), split(k), split(v)
    scale = node.number("scale", 0.0) or q.shape[-1] ** -0.5
    scores = q @ k.transpose(-1, -2) * scale
    scores = scores if bias is None else scores + bias
    least = node.number("mask_filter_value", -10000.0)
    if allowed is not None:
        scores = scores + (1.0 - allowed.to(scores.dtype)) * least
    if node.whole("unidirectional", 0):
        past = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
        scores = torch.where(past.tril(k.shape[2] - q.shape[2]), scores, least)
    y = (torch.softmax(scores, -1) @ v).transpose(1, 2)
    return y.reshape(y.shape[0], y.shape[1], -1)


def _mask(node: OnnxNode, mask: Tensor | None, sequence: int) -> Tensor | None:
    """What may be looked at, as it meets scores ``[batch, heads, queries, keys]``."""
    if mask is None:
        return None
    if mask.dim() == 2 and mask.shape[1] == sequence:
        return mask[:, None, None, :]
    if mask.dim() == 3:
        return mask[:, None]
    if mask.dim() != 1:
        node.refuse(f"has a mask of shape {tuple(mask.shape)}; known: of keys, of queries by keys")
    # how many keys of each sample there are
    return (torch.arange(sequence, device=mask.device) < mask[:, None])[:, None, None, :]


@onnx_op("Attention", domain=MICROSOFT, weights=["w", "b"])
def microsoft_attention(
    node: OnnxNode,
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    bias: Tensor | None = None,
) -> NodeResults:
    """Queries, keys and values by one product, then attention."""
    if past is not None or any(node.outputs[1:]):
        node.refuse(SHARED)
    sizes = node.ints("qkv_hidden_sizes") or (w.shape[1] // 3,) * 3
    y = torch.matmul(x, w)
    q, k, v = (y if b is None else y + b).split(sizes, -1)
    return _attention(node, q, k, v, _mask(node, mask, x.shape[1]), bias)


@onnx_op("MultiHeadAttention", domain=MICROSOFT, weights=["b"])
def multi_head_attention(
    node: OnnxNode,
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    *past: Tensor,
) -> NodeResults:
    """Attention of three sequences."""
    if any(p is not None for p in past) or any(node.outputs[1:]):
        node.refuse(SHARED)
    if k is None or v is None or k.dim() != 3:
        node.refuse("has queries, keys and values in one tensor; export them apart")
    if b is not None:
        bq, bk, bv = b.split((q.shape[-1], k.shape[-1], v.shape[-1]))
        q, k, v = q + bq, k + bk, v + bv
    return _attention(node, q, k, v, _mask(node, mask, k.shape[1]), bias)
