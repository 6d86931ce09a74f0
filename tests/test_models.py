import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_model
from saekit.errors import ConfigError, ContextLengthError, DataError, FileError, MismatchError, UnknownNameError
from saekit.models.weight_processing import process_weights


def reference(model, tokens, name):
    """The activation by TransformerLens' own cache, with a whole forward pass."""
    with torch.inference_mode():
        return model.bridge.run_with_cache(tokens, names_filter=name)[1][name]


@pytest.mark.parametrize("name", [HOOK, "blocks.1.attn.hook_z", "blocks.1.mlp.hook_out", "ln_final.hook_out"])
@pytest.mark.parametrize("which", ["model", "llama"])
def test_activations_equal_the_cache_of_a_whole_pass(request, which, name):
    model = request.getfixturevalue(which)
    tokens = torch.randint(4, 90, (3, 17), generator=torch.Generator().manual_seed(0))
    got, want = model.activations(tokens, name), reference(model, tokens, name)
    assert torch.equal(got, want.flatten(2))


@pytest.mark.parametrize("which", ["model", "llama"])
def test_several_hook_points_stand_side_by_side_after_one_run(request, which, monkeypatch):
    model = request.getfixturevalue(which)
    tokens = torch.randint(4, 90, (3, 17), generator=torch.Generator().manual_seed(0))
    names = ("blocks.1.mlp.hook_out", HOOK, "blocks.1.attn.hook_z", "blocks.0.mlp.hook_in")  # in no particular order
    apart = torch.cat([model.activations(tokens, name) for name in names], dim=-1)
    runs = []
    real = type(model)._run
    monkeypatch.setattr(type(model), "_run", lambda self, *a, **k: runs.append(1) or real(self, *a, **k))
    assert torch.equal(model.activations(tokens, names), apart) and runs == [1]
    assert model.hook_width(names) == apart.shape[-1] == 4 * 32


def test_the_model_stops_at_the_hook(model):
    ran = []
    model.hook_width((HOOK, "blocks.0.mlp.hook_out", "embed.hook_out"))  # measured once, in a whole pass
    handle = model.bridge.blocks[1].register_forward_hook(lambda *_: ran.append(1))
    try:
        model.activations([[5, 6, 7]], HOOK)
        model.activations([[5, 6, 7]], (HOOK, "blocks.0.mlp.hook_out", "embed.hook_out"))
        assert ran == []
        model.forward([[5, 6, 7]])
        assert ran == [1]
    finally:
        handle.remove()


def test_a_hook_replaces_the_activation_and_is_gone_afterwards(llama):
    tokens = torch.tensor([[5, 6, 7, 8]])
    clean = llama.forward(tokens)[0]
    zeroed = llama.forward(tokens, hooks=[("blocks.1.hook_resid_post", torch.zeros_like)])[0]
    assert not torch.allclose(clean, zeroed)
    assert torch.allclose(zeroed, zeroed[:, :1].expand_as(zeroed))  # nothing of the tokens is left
    assert torch.equal(llama.forward(tokens)[0], clean)


def test_cache_and_left_padding_give_the_same_logits(llama):
    tokens = torch.tensor([[5, 6, 7, 8, 9, 10]])
    whole = llama.forward(tokens)[0]
    first, past = llama.forward(tokens[:, :4], use_cache=True)
    rest, _ = llama.forward(tokens[:, 4:], past=past)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, rtol=1e-4, atol=1e-5)
    padded = torch.cat([torch.full((1, 3), llama.pad_id), tokens], 1)
    mask = torch.tensor([[0] * 3 + [1] * 6])
    torch.testing.assert_close(llama.forward(padded, attention_mask=mask)[0][:, 3:], whole, rtol=1e-4, atol=1e-5)
    assert llama.supports_cache


def test_the_native_model_has_no_cache(model):
    assert not model.supports_cache


def test_tokenize_adds_bos_once(model):
    ids = model.tokenize("abc")
    assert ids[0] == model.bos_id and ids[1:] == model.tokenize("abc", bos=False)
    chat = model.chat_prompt("hi")
    assert model.tokenize(chat).count(model.bos_id) == chat.count("<bos>") == 2
    assert model.decode(ids) == "abc"


def test_offsets_cover_the_text(model):
    ids, spans = model.tokenize_with_offsets("fog bay")
    assert "".join("fog bay"[a:b] for a, b in spans) == "fog bay" and len(ids) == 7


def test_unembedding_predicts_the_change_of_logits(llama):
    """Moving the final residual along a direction moves the logits as the folded unembedding says."""
    tokens = torch.tensor([[5, 6, 7]])
    name = "blocks.1.hook_resid_post"
    x = llama.activations(tokens, name)[0, -1]
    logits = llama.forward(tokens)[0][0, -1]
    scale = torch.rsqrt(x.pow(2).mean() + llama.bridge.original_model.config.rms_norm_eps)
    torch.testing.assert_close(x @ llama.unembedding() * scale, logits, rtol=1e-4, atol=1e-4)


def test_compatibility_mode_is_noticed_and_changes_the_fingerprint():
    plain, folded = tiny_model(), tiny_model()
    before = plain.fingerprint
    folded.bridge.enable_compatibility_mode()
    assert (plain.weight_processing, folded.weight_processing) == ("none", "compatibility")
    assert plain.fingerprint == before == tiny_model().fingerprint != tiny_model(seed=1).fingerprint


def test_steps_of_weight_processing_are_named_and_asked_for():
    """A published SAE of centred weights refuses a plain model, and the error's fix works."""
    models = {how: tiny_model() for how in ("none", "center_writing_weights", "compatibility")}
    for how, m in models.items():
        with torch.no_grad():
            for p in m.bridge.original_model.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        if how != "none":
            process_weights(m.bridge, how)
        assert m.weight_processing == how
    tokens = torch.arange(5, 25)[None]
    plain, centred, folded = (m.activations(tokens, HOOK) for m in models.values())
    torch.testing.assert_close(centred, folded, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(centred, plain - plain.mean(-1, keepdim=True), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(centred, plain, atol=1e-2)
    config = sk.SAEConfig(d_in=32, d_sae=64, activation="relu", hook_name=HOOK)
    centring = sk.SAE(config.replace(weight_processing="center_writing_weights", model_name="native"))
    for how in ("center_writing_weights", "compatibility"):  # they do not differ in the residual stream
        centring.check(models[how], HOOK)
    fix = r"sk.load_model\('native', compatibility_mode='center_writing_weights'\)"
    with pytest.raises(MismatchError, match=fix):
        centring.check(models["none"], HOOK)
    with pytest.raises(MismatchError, match="compatibility_mode=False"):
        sk.SAE(config.replace(weight_processing="none")).check(models["compatibility"], HOOK)
    inside = sk.SAE(config.replace(weight_processing="center_writing_weights", hook_name="blocks.0.mlp.hook_in"))
    with pytest.raises(MismatchError, match="prepared in another way"):  # folded norms show there
        inside.check(models["compatibility"])
    with pytest.raises(UnknownNameError, match="did you mean 'fold_ln'"):
        process_weights(tiny_model().bridge, "fold_in")


def test_an_sae_refuses_a_model_of_the_same_name_with_other_weights():
    plain, other = tiny_model(), tiny_model(seed=1)
    sae = sk.SAE(
        sk.SAEConfig(
            d_in=32,
            d_sae=64,
            activation="topk",
            k=4,
            hook_name=HOOK,
            model_name=plain.name,
            model_fingerprint=plain.fingerprint,
        )
    )
    sae.check(plain)
    with pytest.raises(MismatchError, match="other weights"):
        sk.highlight(other, sae, "a cat")
    half = tiny_model()
    half.bridge.original_model.bfloat16()
    assert half.fingerprint == plain.fingerprint


def test_wrong_uses_say_what_to_do(model, tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown hook point .*did you mean 'blocks.0.hook_resid_post'"):
        model.activations([[1]], "blocks.0.hook_resid_pst")
    with pytest.raises(UnknownNameError, match=r"unknown hook point .*did you mean 'blocks.0.hook_resid_post'"):
        model.activations([[1]], (HOOK, "blocks.0.hook_resid_pst"))
    with pytest.raises(ConfigError, match=r"a hook point is named twice"):
        model.activations([[1]], (HOOK, HOOK))
    for wrong in ([HOOK], (), None):
        with pytest.raises(ConfigError, match=r"not a hook point[\s\S]*a tuple of names"):
            model.activations([[1]], wrong)
    with pytest.raises(
        MismatchError, match=r"is not one vector of fixed width[\s\S]*read blocks.0.attn.hook_z instead"
    ):
        model.activations([[1, 2, 3]], (HOOK, "blocks.0.attn.hook_pattern"))
    with pytest.raises(MismatchError, match=r"hook point is switched off[\s\S]*use_hook_mlp_in[\s\S]*mlp.hook_in for"):
        model.activations([[1]], "blocks.0.hook_mlp_in")
    with pytest.raises(ContextLengthError, match=r"65 tokens[\s\S]*at most 64"):
        model.activations(torch.zeros(1, 65, dtype=torch.long), HOOK)
    with pytest.raises(DataError, match="no tokens"):
        model.forward(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(FileError, match="no folder"):
        sk.load_model(tmp_path / "nowhere")
    with pytest.raises(FileError, match="no file"):
        sk.load_model(str(tmp_path / "a.gguf"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="holds no model"):
        sk.load_model(tmp_path / "empty")
    with pytest.raises(ConfigError, match="not a model"):
        sk.load_model(3)


def test_a_broken_gguf_is_a_file_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(FileError, match=r"bad\.gguf could not be read"):
        sk.load_model(tmp_path / "bad.gguf")
    assert all(path.suffix == ".lock" for path in (tmp_path / "cache" / "models").iterdir())


@pytest.mark.real
def test_the_default_model_is_the_expected_one(default_model):
    assert (default_model.d_model, default_model.n_layers, default_model.d_vocab) == (576, 30, 49152)
    assert default_model.token_strings(default_model.tokenize("Golden Gate\nñ")) == [
        "<|im_start|>",
        "Golden",
        " Gate",
        "\n",
        "ñ",
    ]
    logits, _ = default_model.forward([default_model.tokenize("The capital of France is")])
    assert default_model.decode([int(logits[0, -1].argmax())]).strip() == "Paris"
    norms = default_model.activations(default_model.tokenize("The cat sat"), "blocks.15.hook_resid_post")[0].norm(
        dim=-1
    )
    assert norms[0] > 20 * norms[1:].max()  # the sink that every metric leaves out


@pytest.mark.real
def test_a_character_of_several_tokens_belongs_to_the_first_and_its_bytes_can_be_shown(default_model):
    ids = default_model.tokenize("a 🌉", bos=False)
    strings = default_model.token_strings(ids)
    assert "".join(strings) == "a 🌉" and strings[1] == " 🌉" and set(strings[2:]) == {""}
    alone = [default_model.vocabulary.shown[i] for i in ids[1:]]
    assert "".join(alone).replace("><", ">|<").count("<0x") == len("🌉".encode())
    assert default_model.token_strings(ids[:2]) == ["a", alone[0]]


def test_what_the_model_gives_can_train_a_probe(llama):
    """Ordinary tensors, not those of inference mode, and without gradients of their own."""
    x = llama.activations([[1, 2, 3, 4]], "blocks.0.hook_resid_post")
    logits, _ = llama.forward([[1, 2, 3, 4]])
    for given in (x, logits):
        assert not given.is_inference() and not given.requires_grad
        probe = torch.nn.Linear(given.shape[-1], 1)
        probe(given).square().sum().backward()
        assert probe.weight.grad is not None
