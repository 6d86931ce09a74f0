"""Every model of the zoo against plain transformers: facts, logits, activations, logit effects, greedy text."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from transformers import AutoTokenizer

import saekit as sk
from saekit.errors import ConfigError, DataError, MismatchError

from . import zoo


@pytest.fixture(params=zoo.PARAMS)
def zoo_model(request):
    return zoo.load(request.param)


# ---- other ways to load it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@torch.no_grad()
def test_half_precision_is_close_with_a_cache_and_without(zoo_model, dtype):
    ids = torch.tensor([zoo_model.model.tokenize(zoo.PROMPT)])
    want = zoo_model.hf(ids).logits.log_softmax(-1)
    with zoo.quiet():
        half = sk.load_model(zoo_model.folder, dtype=dtype)
    for use_cache in (True, False):
        got = half.forward(ids, use_cache=use_cache)[0].float().log_softmax(-1)
        assert (got - want).abs().mean() < 0.1
    text = sk.generate(half, zoo.PROMPT, max_new_tokens=3, use_cache=False)
    assert text.tokens == sk.generate(half, zoo.PROMPT, max_new_tokens=3).tokens
    torch.testing.assert_close(half.unembedding(), zoo_model.model.unembedding(), rtol=0.05, atol=0.05)


@torch.no_grad()
def test_folded_weights_give_the_same_text_and_effects(zoo_model):
    """Logit effects up to a constant for all tokens, which centring takes off; or an error that says what is wrong."""
    if zoo_model.name == "phi":
        with zoo.quiet(), pytest.raises(MismatchError, match="cannot prepare the weights"):
            sk.load_model(zoo_model.folder, compatibility_mode=True)
        return
    with zoo.quiet():
        folded = sk.load_model(zoo_model.folder, compatibility_mode=True)
    ids = torch.tensor([zoo_model.model.tokenize(zoo.PROMPT)])
    got, want = folded.forward(ids)[0], zoo_model.hf(ids).logits
    torch.testing.assert_close(got.log_softmax(-1), want.log_softmax(-1), rtol=1e-4, atol=1e-4)
    directions = torch.randn(8, folded.d_model, generator=torch.Generator().manual_seed(0))
    directions -= directions.mean(1, keepdim=True)
    effects = [directions @ folded.unembedding(), logit_effects(zoo_model, directions)]
    a, b = (e.double() - e.double().mean(1, keepdim=True) for e in effects)
    assert torch.cosine_similarity(a, b, dim=-1).min() > 0.9999


# ---- facts ----------------------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_files(zoo_model):
    """The tokenizer as its files say: TransformerLens gives one without BOS or EOS tokens of its own making."""
    tokenizer, facts = AutoTokenizer.from_pretrained(zoo_model.folder), zoo_model.model.facts
    d_vocab = zoo_model.hf.config.vocab_size

    def known(ids):
        return frozenset(i for i in ids if i is not None and i < d_vocab)

    bos = known([tokenizer.bos_token_id])
    assert known([facts.bos_id]) == bos
    adds = tokenizer("a")["input_ids"][0] == facts.bos_id
    assert facts.prepend_bos == bool(bos and (adds or zoo_model.name not in WITHOUT_BOS))
    ends = zoo_model.hf.generation_config.eos_token_id
    ends = known(ends if isinstance(ends, list) else [ends])
    assert facts.end_ids == ends
    assert facts.eos_id in (tokenizer.eos_token_id, None) and (facts.eos_id is None) == (not ends)
    assert facts.separator_id == (min(bos, default=None) if facts.eos_id is None else facts.eos_id)
    flagged = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    assert facts.special_ids == known([*tokenizer.all_special_ids, *flagged])
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < d_vocab:
        assert facts.pad_id == tokenizer.pad_token_id
    assert 0 <= facts.pad_id < d_vocab == facts.d_vocab
    assert facts.n_ctx == getattr(zoo_model.hf.config, "max_position_embeddings", facts.n_ctx)
    assert facts.final_norm.centres == (type(last_norm(zoo_model.hf)).__name__ in CENTRES)


WITHOUT_BOS = ("neox", "phi", "bloom", "granite")
"""TransformerLens puts BOS before texts unless it knows that the architecture's models were trained without: these."""
CENTRES = ("LayerNorm", "NemotronLayerNorm1P", "CohereLayerNorm")


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
def test_prompts_are_begun_as_transformers_begins_them(zoo_model, chat):
    """BOS once where the model's texts begin with one, by template or not; and no other token in its place."""
    tokenizer, model = AutoTokenizer.from_pretrained(zoo_model.folder), zoo_model.model
    if chat and zoo_model.name == "llama_surplus":
        with pytest.raises(DataError, match="has no such token") as refused:
            sk.generate(model, zoo.PROMPT, chat=True)
        assert "id 635, '<|begin_of_text|>' to the tokenizer" in str(refused.value)
        return
    if chat and tokenizer.chat_template is None:
        with pytest.raises(ConfigError, match="has no chat template"):
            sk.generate(model, zoo.PROMPT, chat=True)
        return
    if chat:
        turn = [{"role": "user", "content": zoo.PROMPT}]
        want = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
        text = model.chat_prompt(zoo.PROMPT)
        assert text == tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        assert model.tokenize(text, bos=False) == want
        bos = [model.bos_id] if model.facts.prepend_bos and want[0] != model.bos_id else []
        assert sk.generate(model, zoo.PROMPT, chat=True, max_new_tokens=1).n_prompt_tokens == len(want)
        assert model.tokenize(text) == bos + want
    else:
        plain = tokenizer(zoo.PROMPT, add_special_tokens=False)["input_ids"]
        want = [model.bos_id, *plain] if model.facts.prepend_bos else plain
        assert model.tokenize(zoo.PROMPT) == want
        windows = sk.tokenize([zoo.PROMPT, zoo.PROMPT], model, length=64)
        assert windows.tokens[:, : len(want)].tolist() == [want, want] and windows.lengths.tolist() == [len(want)] * 2


# ---- logits --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def alone(zoo_model, rows):
    """Plain transformers' logits of each row on its own: no padding that could matter."""
    return [zoo_model.hf(torch.tensor([row])).logits[0].float() for row in rows]


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_logits_of_a_padded_batch_equal_those_of_each_row_alone(zoo_model, left):
    rows = zoo.prompts(zoo_model.model)
    ids, mask = zoo.padded(rows, zoo_model.model.pad_id, left)
    logits, _ = zoo_model.model.forward(ids, attention_mask=mask)
    for got, own, want in zip(logits, mask.bool(), alone(zoo_model, rows), strict=True):
        torch.testing.assert_close(got[own], want, rtol=1e-3, atol=2e-5)


# ---- activations ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def layer_streams(zoo_model, ids):
    """What goes into each decoder layer and what comes out, by plain forward hooks."""
    got = {}
    handles = []
    for n, layer in enumerate(zoo_model.layers):

        def before(module, args, kwargs, n=n):
            got[f"blocks.{n}.hook_resid_pre"] = args[0] if args else kwargs["hidden_states"]

        def after(module, args, out, n=n):
            got[f"blocks.{n}.hook_resid_post"] = out[0] if isinstance(out, tuple) else out

        handles += [layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)]
    try:
        zoo_model.hf(ids)
    finally:
        for handle in handles:
            handle.remove()
    return got


def test_the_residual_stream_equals_what_goes_in_and_out_of_each_layer(zoo_model):
    ids = torch.tensor([zoo_model.model.tokenize(zoo.PROMPT)])
    for name, want in layer_streams(zoo_model, ids).items():
        if name not in zoo_model.model.hook_names():
            name = name.replace("hook_resid_pre", "hook_in").replace("hook_resid_post", "hook_out")
        torch.testing.assert_close(zoo_model.model.activations(ids, name), want, rtol=1e-4, atol=1e-5, msg=name)


ATTENTION = ("attn", "attention", "self_attn", "self_attention")
PROJECTS_HEADS = ("o_proj", "out_proj", "dense", "c_proj")
PROJECTS_NEURONS = ("down_proj", "dense_4h_to_h", "fc2", "c_proj")
ADDS_THE_STREAM = ("bloom",)
"""Whose attention and MLP return the residual stream with what they add to it."""


def parts_of(zoo_model, layer):
    """Hook point's name within a block -> (module of the plain model, whether its input or its output is meant)."""
    children = dict(layer.named_children())
    out = {}
    attention = next((children[name] for name in ATTENTION if name in children), None)
    if attention is not None:
        heads = next(m for name, m in attention.named_children() if name in PROJECTS_HEADS)
        out["attn.hook_z"] = (heads, "input")
        out["attn.hook_out"] = (attention, "output")
    mlp = children.get("mlp", layer)
    neurons = next((m for name, m in mlp.named_children() if name in PROJECTS_NEURONS), None)
    if neurons is not None:
        out["mlp.hook_post"] = (neurons, "input")
        out["mlp.hook_out"] = (neurons, "output")
    return out


@torch.no_grad()
def test_heads_neurons_and_what_they_write_equal_the_plain_model(zoo_model):
    ids = torch.tensor([zoo_model.model.tokenize(zoo.PROMPT)])
    want, handles = {}, []
    for n, layer in enumerate(zoo_model.layers):
        for name, (module, side) in parts_of(zoo_model, layer).items():

            def keep(module, args, out, name=f"blocks.{n}.{name}", side=side):
                x = args[0] if side == "input" else out
                want[name] = (x[0] if isinstance(x, tuple) else x).clone()  # Falcon adds to it in place

            handles.append(module.register_forward_hook(keep))
    zoo_model.hf(ids)
    for handle in handles:
        handle.remove()
    apart, names = [], []
    for name, x in want.items():
        if zoo_model.name in ADDS_THE_STREAM and name.endswith("_out"):
            continue
        got = zoo_model.model.activations(ids, name)
        apart.append(got)
        names.append(name)
        assert got.shape == (1, *x.reshape(ids.shape[1], -1).shape), name
        torch.testing.assert_close(
            got, x.reshape(got.shape), rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )
    if names:
        torch.testing.assert_close(zoo_model.model.activations(ids, tuple(names)), torch.cat(apart, -1))


# ---- logit effects -------------------------------------------------------------------------------------------------


def last_norm(hf):
    """The module whose output the head reads, seen when the model runs."""
    seen = []
    handle = hf.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    outs = {}
    others = [
        m.register_forward_hook(lambda m, _, out, name=name: outs.update({name: out}))
        for name, m in hf.named_modules()
        if "norm" in type(m).__name__.lower()
    ]
    try:
        hf(torch.tensor([[5, 6, 7]]))
    finally:
        for h in (handle, *others):
            h.remove()
    [name] = [n for n, out in outs.items() if out is seen[0] or torch.equal(out, seen[0])][-1:]
    return hf.get_submodule(name)


@torch.no_grad()
def logit_effects(zoo_model, directions):
    """What the real norm and head make of a push along each direction, at a point where the norm scales evenly."""
    norm, head = (copy.deepcopy(m).double() for m in (last_norm(zoo_model.hf), zoo_model.hf.get_output_embeddings()))
    directions = directions.detach().double()
    x = torch.randn(directions.shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x -= x.mean()
    out = []
    for direction in directions:  # x has mean zero, and one orthogonal to the push: x + push and x - push scale alike
        centred = direction - direction.mean()
        own = x - (x @ centred) / centred.dot(centred) * centred
        out.append((head(norm((own + direction)[None])) - head(norm((own - direction)[None])))[0])
    return torch.stack(out)


def test_logit_effects_are_what_the_real_norm_and_head_do_to_a_push(zoo_model):
    directions = torch.randn(16, zoo_model.model.d_model, generator=torch.Generator().manual_seed(0))
    got, want = directions @ zoo_model.model.unembedding(), logit_effects(zoo_model, directions)
    assert torch.cosine_similarity(got.double(), want, dim=-1).min() > 0.9999


# ---- greedy text ---------------------------------------------------------------------------------------------------


@cache
def greedy(name: str, n: int) -> list[int]:
    """What plain transformers writes, its end token included."""
    zoo_model = zoo.load(name)
    ids = torch.tensor([zoo_model.model.tokenize(zoo.PROMPT)])
    with zoo.quiet():
        out = zoo_model.hf.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=n)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
@pytest.mark.slow
def test_greedy_text_equals_transformers_and_stops_where_it_stops(zoo_model, use_cache):
    want = greedy(zoo_model.name, 200)
    out = sk.generate(zoo_model.model, zoo.PROMPT, max_new_tokens=200, use_cache=use_cache)
    ends = zoo_model.hf.generation_config.eos_token_id
    stops = want[-1] in (ends if isinstance(ends, list) else [ends])
    assert list(out.tokens) == (want[:-1] if stops else want)
    assert out.finish_reason == ("eos" if stops else "length")
    if zoo.KINDS[zoo_model.name].end is not None:
        assert stops and len(want) < 200
