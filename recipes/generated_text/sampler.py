"""A seeded sampler for batches of prompts: a plain Llama decoder with a preallocated key-value cache.

Matrix products are in bfloat16, which on two cores is several times as fast as a growing cache in float32. A seed gives
the same text wherever those products round the same. Source of min-p sampling: Nguyen et al. 2024, Turning up the heat.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_TOKENS = 512
"""Of a prompt with its answer."""
MAX_NEW_TOKENS = 224
BATCH_SIZE = 160
TEMPERATURE = 0.85
MIN_P = 0.06
KEEP_ROWS = 0.8
"""Finished rows leave the batch once the fraction still being written falls below this."""


class Sampler:
    """Batches of seeded samples from a Hugging Face Llama model, bridged or bare."""

    def __init__(self, hf_model: torch.nn.Module, max_len: int = MAX_TOKENS, batch: int = BATCH_SIZE) -> None:
        config: Any = hf_model.config
        self.n_heads, self.n_kv = config.num_attention_heads, config.num_key_value_heads
        self.d_head, self.eps = config.head_dim, config.rms_norm_eps
        self.weights = {
            name.replace("_original_component.", ""): p.detach() if p.ndim == 1 else p.detach().bfloat16()
            for name, p in hf_model.named_parameters()
        }
        self.embed = self.weights["model.embed_tokens.weight"]
        self.n_layers = config.num_hidden_layers
        theta = config.rope_parameters["rope_theta"]
        inv = theta ** (-torch.arange(0, self.d_head, 2).float() / self.d_head)
        angles = torch.outer(torch.arange(max_len).float(), inv)
        self.cos, self.sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
        shape = (self.n_layers, batch, self.n_kv, max_len, self.d_head)
        self.k, self.v = torch.zeros(shape, dtype=torch.bfloat16), torch.zeros(shape, dtype=torch.bfloat16)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x.bfloat16(), self.weights[name]).float()

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weights[name], self.eps)

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def logits(self, tokens: Tensor, start: int, pad: Tensor) -> Tensor:
        """Logits after the last of tokens [batch, pos], which sit at start.. in left-padded rows (pad per row)."""
        batch, n = tokens.shape
        end = start + n
        columns = torch.arange(start, end)
        positions = (columns[None] - pad[:, None]).clamp_min(0)
        keys = torch.arange(end)
        mask = (keys[None, None] <= columns[None, :, None]) & (keys[None, None] >= pad[:, None, None])
        mask = mask.unsqueeze(1) | (keys == columns[:, None])  # a padding row may look at itself: no empty softmax
        x = self.embed[tokens].float()
        for i in range(self.n_layers):
            p = f"model.layers.{i}."
            h = self.norm(x, p + "input_layernorm.weight")
            q, k, v = (
                self.linear(h, p + f"self_attn.{m}_proj.weight").view(batch, n, -1, self.d_head).transpose(1, 2)
                for m in "qkv"
            )
            self.k[i, :batch, :, start:end] = self.rotate(k, positions).bfloat16()
            self.v[i, :batch, :, start:end] = v.bfloat16()
            q = self.rotate(q, positions).bfloat16().reshape(batch, self.n_kv, -1, self.d_head)  # heads share keys
            scores = (q @ self.k[i, :batch, :, :end].transpose(-1, -2)).float().view(batch, self.n_heads, n, end)
            weights = (scores / self.d_head**0.5).masked_fill(~mask, -torch.inf).softmax(-1).bfloat16()
            z = weights.reshape(batch, self.n_kv, -1, end) @ self.v[i, :batch, :, :end]
            z = z.view(batch, self.n_heads, n, self.d_head)
            x = x + self.linear(z.transpose(1, 2).reshape(batch, n, -1), p + "self_attn.o_proj.weight")
            h = self.norm(x, p + "post_attention_layernorm.weight")
            gate = F.silu(self.linear(h, p + "mlp.gate_proj.weight"))
            x = x + self.linear(gate * self.linear(h, p + "mlp.up_proj.weight"), p + "mlp.down_proj.weight")
        return self.linear(self.norm(x[:, -1], "model.norm.weight"), "model.embed_tokens.weight")

    @torch.inference_mode()
    def sample(self, prompts: list[list[int]], eos: int, generator: torch.Generator) -> list[list[int]]:
        """The new tokens after each prompt, up to MAX_NEW_TOKENS, without the end token."""
        width = max(map(len, prompts))
        pad = torch.tensor([width - len(p) for p in prompts])
        tokens = torch.tensor([[eos] * (width - len(p)) + p for p in prompts])
        logits = self.logits(tokens, 0, pad)
        out: list[Tensor] = []
        rows = torch.arange(len(prompts))  # those still being written
        done = torch.zeros(len(prompts), dtype=torch.bool)
        for step in range(MAX_NEW_TOKENS):
            probs = (logits / TEMPERATURE).softmax(-1)
            probs[probs < MIN_P * probs.amax(-1, keepdim=True)] = 0
            cumulative = probs.cumsum(-1)  # far cheaper than torch.multinomial at this vocabulary
            draw = torch.rand(len(prompts), 1, generator=generator)[rows] * cumulative[:, -1:]
            new = torch.searchsorted(cumulative, draw, right=True).clamp_max(probs.shape[-1] - 1)
            new[done[rows]] = eos
            done[rows] |= new[:, 0] == eos
            out.append(torch.full((len(prompts), 1), eos).index_copy_(0, rows, new))
            if done.all():
                break
            if (left := ~done[rows]).float().mean() < KEEP_ROWS:
                end = width + step
                for cache in (self.k, self.v):  # a layer at a time: no second copy of the cache
                    for layer in cache:
                        layer[: left.sum(), :, :end] = layer[: len(rows), :, :end][left]
                rows, new, pad = rows[left], new[left], pad[left]
            logits = self.logits(new, width + step, pad)
        return [row[: row.index(eos)] if eos in row else row for row in torch.cat(out, 1).tolist()]
