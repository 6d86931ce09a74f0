"""Every command on a tiny Llama in a folder, as a shell would call it."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from typer.testing import CliRunner

import saekit as sk
import saekit.cli
from conftest import HOOK, tiny_texts, tiny_tokenizer
from saekit.cli import app
from saekit.cli_help import declared
from saekit.sae.architectures import ARCHITECTURES


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
        max_position_embeddings=192,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    (folder / "text.jsonl").write_text("\n".join(json.dumps(t) for t in tiny_texts()))
    return folder


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.mark.slow
def test_from_text_to_a_steered_answer(shell):
    model, text = ("--model", shell / "model"), ("--corpus", shell / "text.jsonl")
    trained = run(
        "train",
        *model,
        *text,
        "--hook",
        HOOK,
        "--out",
        shell / "sae",
        "--d-sae",
        64,
        "--k",
        4,
        "--n-tokens",
        2048,
        "--batch-size",
        64,
    )
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
    steered = run(
        "generate", "a cat", *model, "--max-new-tokens", 8, "--sae", shell / "sae", "--feature", 3, "--strength", 3
    )
    assert plain.exit_code == steered.exit_code == 0 and plain.output != steered.output


SHORT = ("--n-tokens", 640, "--batch-size", 64, "--context-size", 16, "--d-sae", 64)
OTHER, MLP_IN, MLP_OUT = "blocks.1.hook_resid_post", "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out"


def train(shell, out, *words):
    text = ("--model", shell / "model", "--corpus", shell / "text.jsonl")
    return run("train", *text, "--out", out, *SHORT, *words)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["--activation", "relu", "--target-l0", 6], {"activation": "relu", "target_l0": 6.0, "k": None}),
        (
            ["--activation", "kl", "--sparsity-coefficient", 2],
            {"activation": "kl", "sparsity_coefficient": 2.0, "target_l0": None},
        ),
        (
            ["--activation", "topk", "--multi-k-coefficient", 0.125],
            {"activation": "topk", "multi_k_coefficient": 0.125, "k": 32},
        ),
        (["--matryoshka", "16,64", "--k", 5], {"activation": "batchtopk", "matryoshka": (16, 64), "k": 5}),
        (
            ["--activation", "jumprelu", "--l0-penalty", "quadratic", "--target-l0", 6],
            {"activation": "jumprelu", "l0_penalty": "quadratic", "target_l0": 6.0},
        ),
        (["--activation", "jumprelu", "--l0-penalty", "quadratic"], {"l0_penalty": "quadratic", "target_l0": 4.0}),
        (["--activation", "gated", "--seed", 3], {"activation": "gated", "seed": 3, "target_l0": 4.0}),
        (
            ["--hook", MLP_IN, "--hook-out", MLP_OUT, "--skip"],
            {"hook_name": MLP_IN, "hook_out": MLP_OUT, "skip": True, "d_out": None},
        ),
        (["--hook", MLP_IN, "--hook-out", "blocks.1.mlp.hook_post"], {"hook_name": MLP_IN, "d_out": 64}),
        (["--hook", f"{HOOK}+{OTHER}"], {"hook_name": (HOOK, OTHER), "d_in": 64}),
    ],
    ids=lambda value: "" if isinstance(value, dict) else " ".join(map(str, value)),
)
def test_options_mean_what_the_same_words_mean_in_a_configuration(words, fields, shell, tmp_path):
    hook = [] if "--hook" in words else ["--hook", HOOK]
    done = train(shell, tmp_path, *hook, *words, "--lr", 0.002, "--resample-every", 7, "--device", "cpu")
    assert done.exit_code == 0, done.output
    sae = sk.load_sae(tmp_path)
    assert {name: getattr(sae.config, name) for name in fields} == fields
    said = sae.training_summary["config"]
    assert (said["lr"], said["resample_every"], said["context_size"], said["seed"]) == (
        0.002,
        7,
        16,
        fields.get("seed", 0),
    )
    assert str(tmp_path) in done.output


@pytest.mark.slow
def test_several_hook_points_are_trained_in_one_run_and_evaluated_side_by_side(shell, tmp_path):
    hooks = ("--hook", HOOK, "--hook", "blocks.1.mlp.hook_post", "--hook", f"{HOOK}+{OTHER}")
    board = tmp_path / "board"
    done = train(shell, tmp_path / "run", *hooks, "--k", 4, "--tensorboard", board)
    assert done.exit_code == 0 and "TrainedSAEs: 3 SAEs" in done.output, done.output
    folders = sorted(p.parent for p in (tmp_path / "run").glob("*/cfg.json"))
    assert [sk.load_sae(p).config.d_in for p in folders] == [32, 64, 64]  # each of its own hook point's width
    assert len(list(board.glob("*/events.out.*"))) == 3
    again = train(shell, tmp_path / "run", *hooks, "--k", 4)
    assert again.exit_code == 0 and "TrainedSAEs: 3 SAEs" in again.output
    other = train(shell, tmp_path / "run", *hooks, "--k", 5)
    assert other.exit_code == 1 and "a run with another k lies here" in other.output
    again = train(shell, tmp_path / "run", *hooks, "--k", 5, "--no-resume")
    assert again.exit_code == 0 and sk.load_sae(folders[0]).config.k == 5
    text = ("--model", shell / "model", "--corpus", shell / "text.jsonl", "--n-tokens", 300)
    evaluated = run("evaluate", *folders, *text)
    assert evaluated.exit_code == 0 and "Comparison of 3 SAEs" in evaluated.output
    assert "held-out text" in evaluated.output and "ce_loss_recovered" in evaluated.output


def test_weights_and_biases_is_given_the_project(shell, tmp_path, monkeypatch):
    made = []

    class Logger(sk.WandbLogger):
        def __init__(self, project):
            made.append(project)
            super().__init__(project, mode="disabled")

    monkeypatch.setattr(sk, "WandbLogger", Logger)
    assert train(shell, tmp_path, "--hook", HOOK, "--wandb", "bridges").exit_code == 0
    assert made == ["bridges"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--activation", "relu", "--k", 4], 1, "the relu architecture has no k"),
        (["--activation", "topk", "--target-l0", 4], 1, "the topk architecture has no target_l0"),
        (["--activation", "topkk"], 1, "unknown architecture 'topkk'; did you mean 'topk'"),
        (["--matryoshka", "16,32"], 1, "matryoshka is not a tuple of nested prefix sizes"),
        (["--matryoshka", "16,all"], 2, "--matryoshka"),
        (["--k", 65], 1, "k does not fit the batchtopk architecture"),
        (["--skip"], 1, "a transcoder reconstructs another hook point than it reads"),
        (["--hook-out", HOOK], 1, "a transcoder reconstructs another hook point than it reads"),
        (["--hook", HOOK], 1, "the hook points to train at are not distinct"),
        (["--hook", "blocks.1.hook_resid_pots"], 1, "did you mean 'blocks.1.hook_resid_post'"),
        (["--hook", f"{HOOK}+{HOOK}"], 1, "a hook point is named twice"),
        (["--hook", f"{HOOK}+"], 1, "unknown hook point"),
        (["--hook", f"{HOOK}+{OTHER}", "--hook-out", MLP_OUT], 1, "a transcoder or a crosscoder, not both"),
        (["--n-tokens", 10], 1, "n_tokens is less than one batch"),
        (["--device", "cdua"], 1, "no such device here"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_mistake_in_training_is_one_clear_message_and_writes_nothing(words, status, says, shell, tmp_path):
    done = train(shell, tmp_path / "run", "--hook", HOOK, *words)
    assert done.exit_code == status and says in done.output and "Traceback" not in done.output, done.output
    assert status == 2 or {"seen:", "accepted:", "fix:"} <= set(re.findall(r"\w[\w ]*:", done.output))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["train", "evaluate", "index", "specificity", "generate"])
def test_a_command_has_the_defaults_of_the_function_that_it_calls(name):
    function = getattr(sk, "build_index" if name == "index" else name)
    accepted = [sk.SAEConfig, sk.TrainConfig, function] if name == "train" else [function]
    defaults = {n: p.default for f in accepted for n, p in inspect.signature(f).parameters.items()}
    if name == "train":
        defaults["target_l0"] = None  # left out of SAEConfig's arguments by both
    for option, parameter in inspect.signature(getattr(saekit.cli, name)).parameters.items():
        expected = defaults.get(option, parameter.empty)
        if parameter.empty not in (parameter.default, expected):
            assert (parameter.default or None) == (expected or None), option  # no --matryoshka is (), as None


def test_help_names_every_architecture_and_says_how_to_make_each_kind():
    text = " ".join(run("train", "--help").output.replace("│", " ").split())
    for words in (", ".join(ARCHITECTURES), "A+B: a crosscoder", "Makes a transcoder", "256,1024"):
        assert words in text, words


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


def test_help_reads_from_source_what_the_registry_holds():
    assert declared() == {name: architecture.options for name, architecture in ARCHITECTURES.items()}


def test_a_file_of_settings_means_what_the_same_options_mean(shell, tmp_path):
    lines = ["text,topic", *(f"a cat sat on mat {i},cats" for i in range(60))]
    (tmp_path / "rows.csv").write_text("\n".join(lines).replace("text", "body"), "utf-16")
    (tmp_path / "run.yaml").write_text(
        f"""
out: {tmp_path / "run"}
model: {shell / "model"}
corpus: {{source: {tmp_path / "rows.csv"}, text: body, encoding: utf-16}}
sae: {{hook_name: {HOOK}, d_sae: 64, activation: topk, k: 5, aux_coefficient: 0.125}}
train: {{n_tokens: 256, batch_size: 64, context_size: 16, decay_fraction: 0.25, seed: 3}}
"""
    )
    done = run("train", "--config", tmp_path / "run.yaml", "--k", 4)
    assert done.exit_code == 0, done.output
    sae = sk.load_sae(tmp_path / "run")
    assert (sae.config.k, sae.config.d_sae, sae.config.aux_coefficient, sae.config.activation) == (4, 64, 0.125, "topk")
    said = sae.training_summary["config"]
    assert (said["n_tokens"], said["decay_fraction"], said["seed"], said["batch_size"]) == (256, 0.25, 3, 64)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("sea: {k: 4}", "did you mean 'sae'"),
        ("sae: {d_sea: 4}", "did you mean 'd_sae'"),
        ("train: {decay_fracton: 1}", "did you mean 'decay_fraction'"),
        ("train: {decay_fraction: 7}", "decay_fraction is not a fraction"),
        ("corpus: {txt: a}", "did you mean 'text'"),
        ("a: [", "is not YAML"),
        ("[1]", "has no sections"),
    ],
)
def test_a_mistake_in_a_file_of_settings_is_named(content, says, shell, tmp_path):
    (tmp_path / "run.yaml").write_text(content)
    done = train(shell, tmp_path / "run", "--hook", HOOK, "--config", tmp_path / "run.yaml")
    assert done.exit_code == 1 and says in done.output and "Traceback" not in done.output, done.output


def test_the_printed_file_of_settings_trains_as_no_file_does(shell, tmp_path):
    printed = run("train", "--write-config")
    assert printed.exit_code == 0 and "decay_fraction: 0.4" in printed.output, printed.output
    (tmp_path / "run.yaml").write_text(printed.output)
    done = train(shell, tmp_path / "a", "--hook", HOOK, "--k", 4, "--config", tmp_path / "run.yaml")
    assert done.exit_code == 0, done.output
    assert train(shell, tmp_path / "b", "--hook", HOOK, "--k", 4).exit_code == 0
    assert sk.load_sae(tmp_path / "a").config == sk.load_sae(tmp_path / "b").config


@pytest.mark.parametrize("name", ["train", "evaluate", "index"])
def test_every_command_with_a_corpus_has_its_options_and_errors_name_them(name, shell, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"body": "a cat"}')
    (tmp_path / "latin.csv").write_bytes(b"text\n\xe9\n")
    words = {"train": [], "evaluate": [sae_of(shell)], "index": [sae_of(shell)]}[name]
    words += [] if name == "evaluate" else ["--out", tmp_path / "out"]
    words += ["--hook", HOOK] if name == "train" else []
    words = [name, *words, "--model", shell / "model", "--corpus"]
    done = run(*words, tmp_path / "rows.jsonl")
    assert done.exit_code == 1 and "pass --text with" in done.output and "text=" not in done.output, done.output
    done = run(*words, tmp_path / "latin.csv")
    assert done.exit_code == 1 and "pass --encoding cp1252" in done.output, done.output
    done = run(*words, tmp_path / "rows.jsonl", "--text", "body", "--labels", "topik")
    assert done.exit_code == 1 and "unknown label column" in done.output, done.output


def sae_of(shell):
    if not (shell / "plain").exists():
        assert train(shell, shell / "plain", "--hook", HOOK, "--k", 4).exit_code == 0
    return shell / "plain"
