"""Every command on a tiny Llama in a folder, as a shell would call it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from conftest import HOOK, tiny_texts, tiny_tokenizer
from saekit.cli import app


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, vocab_size=128, max_position_embeddings=192)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    (folder / "text.jsonl").write_text("\n".join(json.dumps(t) for t in tiny_texts()))
    return folder


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_from_text_to_a_steered_answer(shell):
    model, text = ("--model", shell / "model"), ("--corpus", shell / "text.jsonl")
    trained = run("train", *model, *text, "--hook", HOOK, "--out", shell / "sae", "--d-sae", 64, "--k", 4,
                  "--n-tokens", 2048, "--batch-size", 64)  # fmt: skip
    assert trained.exit_code == 0 and "d_sae 64" in trained.output, trained.output
    evaluated = run("evaluate", shell / "sae", *model, *text, "--n-tokens", 500)
    assert evaluated.exit_code == 0 and "explained_variance" in evaluated.output
    indexed = run("index", shell / "sae", "--out", shell / "index", *model, *text)
    assert indexed.exit_code == 0 and "FeatureIndex of 64 features" in indexed.output
    ranked = run("specificity", shell / "index", "golden")
    assert ranked.exit_code == 0 and "average_precision" in ranked.output
    scored = run("specificity", shell / "index", "golden", "--feature", ranked.output.splitlines()[2].split()[0])
    assert scored.exit_code == 0 and "AUROC" in scored.output
    plain = run("generate", "a cat", *model, "--max-new-tokens", 8)
    steered = run("generate", "a cat", *model, "--max-new-tokens", 8, "--sae", shell / "sae", "--feature", 3,
                  "--strength", 3)  # fmt: skip
    assert plain.exit_code == steered.exit_code == 0 and plain.output != steered.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evaluate", "no-such-sae"], "unknown SAE 'no-such-sae'"),
        (["specificity", "/no/such/index", "golden"], "/no/such/index"),
        (["generate", "hi", "--model", "/no/such/model"], "no folder /no/such/model"),
    ],
)
def test_a_mistake_is_one_clear_message(words, says):
    done = run(*words)
    assert done.exit_code == 1 and says in done.output and "Traceback" not in done.output
