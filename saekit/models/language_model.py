"""What saekit needs of a language model: tokens, activations, logits and its unembedding.

Weights stay as Hugging Face publishes them unless the bridge was put into compatibility mode; which of the two is
recorded, because activations differ silently between them.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ContextLengthError, DataError, MismatchError, unknown_name
from ..hook_points import HookPoint, hook_names
from .displays import model_html
from .hook_layout import PROBES, HookLayout, find_layout
from .text_model import TextModel
from .weight_processing import weight_processing_of

Hook = Callable[[Tensor], Tensor | None]


_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
"""One for each bridge: hooks are on it for the length of a pass, and a pass in another thread would run into them."""


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """Raised inside a forward pass once the hook it was run for has its activation."""


def _append_shape(seen: list[tuple[int, ...]], x: Tensor) -> None:
    seen.append(tuple(x.shape))


class LanguageModel(TextModel):
    """A language model whose hook points can be read and edited. Made by `load_model`.

    >>> model.d_model, model.n_layers
    (32, 2)
    """

    edits: tuple[Any, ...] = ()
    """Edits of every forward pass; a steered model has some."""

    def __init__(self, bridge: Any, name: str, tokenizer: Any = None) -> None:
        super().__init__(bridge, name, tokenizer)
        self.bridge.eval()
        cfg = bridge.cfg
        self.d_model, self.n_layers = int(cfg.d_model), int(cfg.n_layers)
        self.n_ctx = int(cfg.n_ctx)
        self._layouts: dict[str, HookLayout] = {}
        self._lock = _LOCKS.setdefault(bridge, threading.RLock())

    def __repr__(self) -> str:
        return (
            f"LanguageModel {self.name}: {self.n_layers} layers, d_model {self.d_model}, d_vocab {self.d_vocab}, "
            f"context {self.n_ctx}, weight processing {self.weight_processing}, on {self.device}"
        )

    _repr_html_ = model_html

    @property
    def device(self) -> torch.device:
        return torch.device(next(self.bridge.original_model.parameters()).device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        dtype: torch.dtype = next(self.bridge.original_model.parameters()).dtype
        return dtype

    @property
    def weight_processing(self) -> str:
        """ "none" for weights as published, "compatibility" once TransformerLens has folded and centred them, or the
        steps of it that were taken."""
        return weight_processing_of(self.bridge)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of a sample of every weight, the same in float32 and bfloat16; float16, which rounds
        otherwise, has another."""
        digest = hashlib.sha256(f"{self.d_model} {self.n_layers} {self.d_vocab}".encode())
        for key, weight in sorted(self.bridge.original_model.state_dict().items()):
            flat = weight.detach().reshape(-1)
            sample = flat[:: max(1, flat.numel() // 64)].bfloat16().float().cpu()
            digest.update(key.rsplit("_original_component.", 1)[-1].encode() + sample.numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def weights_fingerprint(self) -> str:
        """The fingerprint of the weights alone: a steered model's is that of the model below it."""
        return self.fingerprint

    @property
    def base(self) -> LanguageModel:
        """The model without its edits: itself, unless it is steered."""
        return self

    @property
    def is_hooked(self) -> bool:
        """Whether hooks lie on the bridge now, which may change what the model computes."""
        return any(point.fwd_hooks for point in self.bridge.hook_dict.values())

    @contextlib.contextmanager
    def unedited(self) -> Iterator[None]:
        """Forward passes in here are not edited, even where the model is steered."""
        yield

    # ---- running ------------------------------------------------------------------------------------------------

    def hook_names(self) -> list[str]:
        """Every hook point's name, in the model's order."""
        return list(self.bridge.hook_dict)

    def check_hook(self, hook_point: HookPoint) -> HookPoint:
        """`hook_point` itself; UnknownNameError with the nearest name when the model has no such hook point.

        >>> model.check_hook("blocks.0.hook_resid_pots")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saekit.errors.UnknownNameError: unknown hook point ...; did you mean ...?
        ...
        """
        for name in hook_names(hook_point):
            if name not in self.bridge.hook_dict:
                fix = f"model.hook_names() lists all; layers run from 0 to {self.n_layers - 1}"
                raise unknown_name("hook point", name, self.hook_names(), fix=fix)
        return hook_point

    def hook_width(self, hook_point: HookPoint) -> int:
        """How many numbers a token has at a hook point: what an SAE there reads. Of several, the sum.

        Raises UnknownNameError for the hook, MismatchError for one that does not hold one vector for each token.

        >>> model.hook_width(("blocks.0.hook_resid_post", "blocks.1.mlp.hook_post"))
        96
        >>> model.hook_width("blocks.0.attn.hook_pattern")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saekit.errors.MismatchError: the activation at ... is not one vector of fixed width for each token
        ...
          fix:      read blocks.0.attn.hook_z instead
        """
        return sum(self.hook_layout(name).width for name in hook_names(self.check_hook(hook_point)))

    def hook_layout(self, hook_name: str) -> HookLayout:
        """How the activation at one hook point becomes [batch, pos, d]; measured once. Errors as `hook_width`.

        >>> model.hook_layout("blocks.0.attn.hook_z")
        HookLayout(positions=1, width=32)
        """
        if self.base is not self:
            return self.base.hook_layout(hook_name)
        self.check_hook(hook_name)
        if hook_name not in self._layouts:
            shapes: list[list[tuple[int, ...]]] = [[], []]
            for seen, (batch, length) in zip(shapes, PROBES, strict=True):
                see: Hook = partial(_append_shape, seen)
                self._run(self._tokens([[0] * length] * batch), [(hook_name, see)])
            self._layouts[hook_name] = find_layout(hook_name, shapes, self.hook_names())
        return self._layouts[hook_name]

    def first_name(self, hook_name: str) -> str:
        """The first of the names that a hook point has: two names of one point are the same place.

        >>> model.first_name("blocks.0.hook_resid_post")
        'blocks.0.hook_out'
        """
        points = self.bridge.hook_dict  # built at every access
        return next(str(name) for name, point in points.items() if point is points[hook_name])

    def check_distinct(self, hook_point: HookPoint) -> None:
        """MismatchError when two of several names are one hook point, which would be read twice.

        >>> model.check_distinct(("blocks.0.hook_resid_post", "blocks.1.hook_resid_post"))
        """
        names = hook_names(self.check_hook(hook_point))
        places = [self.first_name(name) for name in names] if len(names) > 1 else list(names)
        for i, place in enumerate(places):
            if place in places[:i]:
                raise MismatchError(
                    "two names of one hook point stand side by side",
                    got=f"{names[places.index(place)]} and {names[i]}",
                    accepted="each hook point once",
                    fix=f"leave {names[i]} out",
                )

    def activations(
        self,
        tokens: Int[Tensor, "batch pos"] | Sequence[Sequence[int]] | Sequence[int],
        hook_name: HookPoint,
        attention_mask: Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch pos d"]:
        """Activations [batch, pos, d] at a hook point; the model runs once, and only as far as it must.

        Several hook points, a tuple of names, come side by side along d. Activations of heads come side by
        side, wherever the hook point has its axis of heads. Raises UnknownNameError for the hook, MismatchError for one
        without one vector for each token (attention patterns), ContextLengthError for too many tokens.

        >>> model.activations([1, 2, 3], "blocks.0.hook_resid_post").shape
        torch.Size([1, 3, 32])
        >>> model.activations([1, 2, 3], ("blocks.0.hook_resid_post", "blocks.1.mlp.hook_post")).shape
        torch.Size([1, 3, 96])
        """
        tokens = self._tokens(tokens)
        names = hook_names(self.check_hook(hook_name))
        layouts = {name: self.hook_layout(name) for name in names}
        got: dict[str, Tensor] = {}

        def reader(name: str) -> Hook:
            def read(x: Tensor) -> None:
                got[name] = layouts[name].flatten(x)
                if len(got) == len(names):
                    raise _Reached

            return read

        with contextlib.suppress(_Reached):
            self._run(tokens, [(name, reader(name)) for name in names], attention_mask=attention_mask)
        return got[names[0]] if len(names) == 1 else torch.cat([got[name] for name in names], dim=-1)

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | Sequence[Sequence[int]] | Sequence[int],
        *,
        hooks: Sequence[tuple[str, Hook]] = (),
        attention_mask: Int[Tensor, "batch total"] | Bool[Tensor, "batch total"] | None = None,
        past: Any = None,
        use_cache: bool = False,
    ) -> tuple[Float[Tensor, "batch pos d_vocab"], Any]:
        """Logits, and the key-value cache when use_cache is set (None where the model has none: `supports_cache`).

        A hook takes the activation at its point and returns its replacement, or None to leave it. `past` is a cache
        from an earlier call and is extended; attention_mask spans past and new tokens, with 0 for left padding.
        """
        tokens = self._tokens(tokens, 0 if past is None else int(past.get_seq_length()))
        for name, _ in hooks:
            self.check_hook(name)
        extra: dict[str, Any] = {"use_cache": use_cache}
        if past is not None:
            extra = {"past_key_values": past, "use_cache": True}
        elif next(self.bridge.original_model.parameters()).dtype in (torch.float16, torch.bfloat16):
            extra = {}  # without one, TransformerLens' attention multiplies float32 by these in some models (OLMo-2)
        out = self._run(tokens, hooks, attention_mask=attention_mask, return_type="logits_and_cache", **extra)
        logits, cache = out
        return logits, cache if use_cache or past is not None else None

    def repeat_past(self, past: Any, n: int) -> Any:
        """A copy of the cache of one row for n rows."""
        past = copy.deepcopy(past)
        past.reorder_cache(torch.zeros(n, dtype=torch.long, device=self.device))  # layers of every kind have it
        return past

    @cached_property
    def supports_cache(self) -> bool:
        """Whether the model keeps a key-value cache (TransformerLens' native test models do not)."""
        return self.forward([[0]], use_cache=True)[1] is not None

    @cached_property
    def _unembedding(self) -> Tensor:
        W_U: Tensor = self.bridge.W_U.detach().float()
        return self.facts.final_norm.fold_into(W_U)

    def unembedding(self) -> Float[Tensor, "d_model d_vocab"]:
        """W_U behind the final norm, as measured: direction @ this is its logit effect, up to the norm's scale."""
        return self._unembedding

    @torch.no_grad()  # inference_mode would save nothing measurable, and no probe could be trained on what comes out
    def _run(self, tokens: Tensor, hooks: Sequence[tuple[str, Hook]], **kwargs: Any) -> Any:
        mask = kwargs.pop("attention_mask", None)
        if mask is not None:
            kwargs["attention_mask"] = mask.to(self.device, torch.long)
        wrapped = [(name, lambda x, hook, f=f: f(x)) for name, f in hooks]
        try:
            with self._lock, self.bridge.hooks(fwd_hooks=wrapped):
                return self.bridge(tokens, **kwargs)
        except ValueError as e:
            if not str(e).startswith("Cannot add hook"):
                raise
            raise MismatchError(
                "this hook point is switched off",
                got=str(e),
                accepted="a hook point that is on, as most are",
                fix="switch it on (model.bridge.set_use_...), or use its neighbour, e.g. mlp.hook_in for hook_mlp_in",
            ) from e

    def _tokens(self, tokens: Any, n_past: int = 0) -> Tensor:
        if not isinstance(tokens, Tensor):
            try:
                tokens = torch.as_tensor(tokens)
                tokens = tokens.long() if tokens.numel() == 0 else tokens
            except (TypeError, ValueError, OverflowError, RuntimeError) as e:
                raise self._no_tokens(f"{tokens!r:.80}: {e}") from None
        if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool or tokens.ndim > 2:
            raise self._no_tokens(f"{tokens.dtype}, shape {tuple(tokens.shape)}")
        if tokens.ndim == 1:
            tokens = tokens.unsqueeze(0)
        if tokens.numel() == 0:
            raise DataError("no tokens to run the model on", got=tuple(tokens.shape), accepted="at least one token")
        if tokens.shape[1] + n_past > self.n_ctx:
            raise ContextLengthError(
                "the text is longer than the model's context",
                got=f"{tokens.shape[1] + n_past} tokens",
                accepted=f"at most {self.n_ctx} tokens ({self.name})",
                fix="shorten it, or cut it into windows with sk.tokenize",
            )
        if tokens.device.type == "cpu":  # on a GPU the host would have to wait
            self._check_known(tokens)
        return torch.as_tensor(tokens, dtype=torch.long, device=self.device)

    def _no_tokens(self, got: str) -> DataError:
        return DataError(
            "these are not token ids",
            got=got,
            accepted=f"whole numbers from 0 to {self.d_vocab - 1}, in rows of one length",
            fix="pass model.tokenize(text)",
        )

    def _check_known(self, tokens: Tensor) -> None:
        strange = tokens[(tokens < 0) | (tokens >= self.d_vocab)]
        if len(strange):
            i = int(strange[0])
            read = (
                f", {self.tokenizer.convert_ids_to_tokens(i)!r} to the tokenizer"
                if self.has_tokenizer and 0 < i < 2**31
                else ""
            )
            raise DataError(
                "the model has no such token",
                got=f"id {i}{read}",
                accepted=f"0 to {self.d_vocab - 1} ({self.name})",
                fix="use the tokenizer that the model was trained with",
            )
