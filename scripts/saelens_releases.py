"""Writes saekit/sae/formats/releases.json from the list of published SAEs that comes with SAELens.

    .venv/bin/python scripts/saelens_releases.py PATH/sae_lens/pretrained_saes.yaml [--check]

Names are factored into patterns ("layer_{0..25}_width_{16k,262k}"), and every id that the patterns give is checked
against the list. With --check nothing is written and a table that differs is an error: scripts/interop.py runs it.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from saekit.json_files import sealed
from saekit.sae.formats.releases import expand

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "saekit" / "sae" / "formats" / "releases.json"
SPLIT = re.compile(r"([_/.]|(?<=trainer)_)")
Row = tuple[frozenset[str], ...]

FAMILIES: dict[str | None, str] = {
    None: "saelens",
    "connor_rob_hook_z": "attn_saes_gpt2",
    "gemma_2": "gemma_scope",
    "gemma_2_transcoder": "gemma_scope",
    "gemma_3": "gemma_scope_2",
    "llama_scope": "llama_scope",
    "llama_scope_r1_distill": "llama_scope_r1",
    "dictionary_learning_1": "dictionary_learning",
    "deepseek_r1": "qresearch",
    "qwen_scope": "qwen_scope",
    "mwhanna_transcoder": "circuit_tracer",
    "mntss_clt_layer_transcoder": "cross_layer_transcoder",
    "temporal": "temporal",
    "goodfire": "goodfire",
}
D_MODEL = {"-2b-": 2304, "-9b-": 3584}
"""Widths of the Gemma 2 models that have SAEs of their embeddings."""
PILE = "monology/pile-uncopyrighted"


def facts_of(release: str, entry: dict[str, Any]) -> dict[str, Any]:
    """What the files of a release leave out: model, hook points, and how the activations were prepared."""
    kind, repo, model = entry["conversion_func"], entry["repo_id"], entry["model"]
    facts: dict[str, Any] = {"model_name": model}
    if kind in ("gemma_2", "gemma_2_transcoder"):
        size = re.search(r"gemma-scope-(\d+b)-(pt|it)", repo)
        assert size is not None
        facts |= {"model_name": f"gemma-2-{size[1]}" + ("-it" if size[2] == "it" else "")}
        facts |= {"prepend_bos": True, "context_size": 1024, "dataset": PILE}
        if kind == "gemma_2_transcoder":
            facts |= {"hook_name": "blocks.{layer}.ln2.hook_normalized", "hook_out": "blocks.{layer}.hook_mlp_out"}
        else:
            place = repo.rsplit("-", 1)[1]
            facts["hook_name"] = "blocks.{layer}." + {"res": "hook_resid_post", "mlp": "hook_mlp_out"}.get(
                place, "attn.hook_z"
            )
    elif kind == "gemma_3":
        facts |= {"prepend_bos": True, "context_size": 1024, "dataset": PILE}
        place = release.removesuffix("-all").rsplit("-", 1)[1]
        facts["hook_name"] = "blocks.{layer}." + {
            "res": "hook_resid_post",
            "mlp": "hook_mlp_out",
            "att": "attn.hook_z",
        }.get(place, "mlp.hook_in")  # the output of pre_feedforward_layernorm, as the files say
        if place in ("transcoders", "clt"):
            facts["hook_out"] = "blocks.{layer}.hook_mlp_out"
    elif kind in ("dictionary_learning_1", "deepseek_r1", "qwen_scope", "goodfire"):
        facts |= {"hook_name": "blocks.{layer}.hook_resid_post", "prepend_bos": True}
        if kind == "qwen_scope":
            facts["k"] = int(repo.rsplit("_", 1)[1])
    elif kind == "mwhanna_transcoder":
        facts |= {"hook_name": "blocks.{layer}.mlp.hook_in", "hook_out": "blocks.{layer}.hook_mlp_out"}
    elif kind == "connor_rob_hook_z":
        facts |= {"hook_name": "blocks.{layer}.attn.hook_z", "prepend_bos": True, "context_size": 128}
        facts["dataset"] = "Skylion007/openwebtext"
    elif kind in ("llama_scope", "llama_scope_r1_distill"):
        facts |= {"prepend_bos": True, "context_size": 1024}
    for name, value in (entry.get("config_overrides") or {}).items():
        if name == "model_from_pretrained_kwargs":
            facts["weight_processing"] = ", ".join(option for option in value if value[option])
        elif name not in ("model_name", "hook_name"):
            facts["dataset" if name == "dataset_path" else name] = value
    return facts


def patterns(ids: dict[str, str]) -> dict[str, str]:
    """The ids and paths of a release, factored."""
    if all(ids[i] == i for i in ids):
        return dict.fromkeys(factored(list(ids)), "{id}")
    for affix in {path[: -len(i)] for i, path in ids.items() if path.endswith(i)}:
        if all(path == affix + i for i, path in ids.items()):
            return dict.fromkeys(factored(list(ids)), affix + "{id}")
    found: dict[str, str] = {}
    groups: dict[Any, dict[str, str]] = collections.defaultdict(dict)
    for i, path in ids.items():
        groups[len(SPLIT.split(i)), len(SPLIT.split(path)), SPLIT.split(path)[0][:2]][i] = path
    for group in groups.values():
        tokens = {i: numbered(i) for i in group}
        path_tokens = {i: numbered(path) for i, path in group.items()}
        length = min(map(len, path_tokens.values()))
        sources = {}
        if len({len(p) for p in path_tokens.values()} | {0}) == 2 and len({len(t) for t in tokens.values()}) == 1:
            for j in range(length):
                n_values = len({path_tokens[i][j] for i in group})
                n = len(next(iter(tokens.values())))
                fits = [k for k in range(n) if all(path_tokens[i][j] == tokens[i][k] for i in group)]
                if n_values > 1 and fits:
                    sources[j] = fits[0]
        by_template = collections.defaultdict(list)
        for i in group:
            template = tuple(f"\0{sources[j]}\0" if j in sources else t for j, t in enumerate(path_tokens[i]))
            by_template[template].append(i)
        for template, members in by_template.items():
            for row in rows([tuple(tokens[i]) for i in members]):
                varying = [k for k, values in enumerate(row) if len(values) > 1]
                path = "".join(template)
                for k, values in enumerate(row):
                    to = f"{{{varying.index(k)}}}" if k in varying else next(iter(values))
                    path = path.replace(f"\0{k}\0", to)
                found[written(row)] = path
    return found


def numbered(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+k?|[_/.])", name) if part]


def factored(names: list[str]) -> list[str]:
    groups = collections.defaultdict(list)
    for name in names:
        groups[len(numbered(name))].append(tuple(numbered(name)))
    return [written(row) for group in groups.values() for row in rows(group)]


def rows(names: list[tuple[str, ...]]) -> list[Row]:
    """As few products of alternatives as are found by merging rows that differ in one place."""
    current: list[Row] = [tuple(frozenset([t]) for t in name) for name in dict.fromkeys(names)]
    changed = True
    while changed:
        changed = False
        for place in range(len(names[0]) - 1, -1, -1):
            merged: dict[Row, frozenset[str]] = {}
            for row in current:
                key = (*row[:place], frozenset(), *row[place + 1 :])
                merged[key] = merged.get(key, frozenset()) | row[place]
            changed |= len(merged) < len(current)
            current = [(*key[:place], values, *key[place + 1 :]) for key, values in merged.items()]
    return current


def written(row: Row) -> str:
    return "".join(next(iter(v)) if len(v) == 1 else "{" + alternatives(v) + "}" for v in row)


def alternatives(values: frozenset[str]) -> str:
    if all(v.isdigit() and str(int(v)) == v for v in values):
        numbers = sorted(map(int, values))
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{numbers[0]}..{numbers[-1]}"
        return ",".join(map(str, numbers))
    return ",".join(sorted(values, key=lambda v: (len(v), v)))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("list", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    listed = yaml.load(arguments.list.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    releases = {}
    n_ids = 0
    for release, entry in sorted(listed.items()):
        ids = {s["id"]: str(s["path"]) for s in entry["saes"]}
        out = {
            "repo": entry["repo_id"],
            "family": FAMILIES[entry["conversion_func"]],
            "facts": facts_of(release, entry),
            "ids": patterns(ids),
        }
        scaled = {
            s["id"]: {"activation_scale": s["norm_scaling_factor"]}
            for s in entry["saes"]
            if "norm_scaling_factor" in s and entry["conversion_func"] != "llama_scope"  # its files say it
        }
        for i in ids:
            if i.startswith("embedding"):  # trained before Gemma multiplies its embeddings by sqrt(d_model)
                size = next(n for name, n in D_MODEL.items() if name in release)
                scaled[i] = {"hook_name": "hook_embed", "activation_scale": size**-0.5}
        if scaled:
            out["facts_by_id"] = scaled
        releases[release] = out
        given = {}
        for pattern, path in out["ids"].items():
            for name, values in expand(pattern):
                given[name] = path.format(*values, id=name)
        assert given == ids, (release, set(given.items()) ^ set(ids.items()))
        n_ids += len(ids)
    content = sealed({"source": "sae_lens/pretrained_saes.yaml of SAELens 6.54.12 (MIT)", "releases": releases})
    text = json.dumps(content, indent=0, ensure_ascii=False, separators=(",", ":")) + "\n"
    print(f"{len(releases)} releases, {n_ids} ids, {len(text)} bytes")
    if arguments.check:
        same = text == TABLE.read_text()
        print("the table is that of the list" if same else f"{TABLE.name} DIFFERS from the list: write it again")
        return 0 if same else 1
    TABLE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
