"""The default SAEs: three widths on one layer of the default model, from text to packaged weights with their cards.

    python -m recipes.default_saes.own_text FOLDER/own
    python -m recipes.default_saes.training FOLDER texts
    python -m recipes.default_saes.training FOLDER layers
    python -m recipes.default_saes.training FOLDER harvest --layers 9 15 21 --tokens 1000000 --out comparison
    python -m recipes.default_saes.training FOLDER compare
    python -m recipes.default_saes.training FOLDER harvest
    python -m recipes.default_saes.training FOLDER train --tokens 24000000
    python -m recipes.default_saes.training FOLDER concepts FOLDER/saes/2-batchtopk-16384     (and golden)
    python -m recipes.default_saes.training FOLDER ship

Each can be stopped and called again: what is done is passed over. A GPU is used where there is one.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import saekit as sk
from saekit.atomic_io import read_json, write_json
from saekit.training.config import peak_lr

from . import cards, comparison, golden_gate, mixture
from . import concepts as named
from . import harvest as cache_text
from . import layers as by_layer

ROOT = Path(__file__).parents[2]


def texts(args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    mixture.build(args.folder, args.own or args.folder / "own", args.packages or args.folder / "packages")


def layers(args: argparse.Namespace) -> None:
    print(by_layer.table(by_layer.measure(args.folder)))


def harvest(args: argparse.Namespace) -> None:
    rules = cache_text.token_filters(args.folder, args.layers)
    corpus = mixture.load(args.folder, "mixture", args.tokens)
    cache_text.harvest(corpus, args.layers, rules, args.folder / args.out, args.products)


def compare(args: argparse.Namespace) -> None:
    cache = sk.open_activations(args.folder / args.cache)
    comparison.compare(
        args.folder,
        cache,
        d_sae=args.d_sae,
        n_tokens=args.tokens,
        n_judged=args.judged_tokens,
        n_evidence=args.evidence_tokens,
        steering=not args.no_steering,
        products=args.products,
        lr=args.lr,
    )


def train(args: argparse.Namespace) -> None:
    cache = sk.open_activations(args.folder / args.cache).at(cache_text.hook(args.layer))
    configs = [sae_config(args, d_sae) for d_sae in args.widths]
    config = sk.TrainConfig(n_tokens=args.tokens, lr=args.lr, seed=args.seed, dead_after_tokens=args.dead_after)
    out = args.folder / args.out
    out.mkdir(parents=True, exist_ok=True)
    begun = {"commit": commit(), "seconds": 0.0}
    run: dict[str, Any] = read_json(out / "run.json") if (out / "run.json").exists() else begun
    run |= {
        "n_tokens": args.tokens,
        "lr": {str(c.d_sae): peak_lr(c, config) for c in configs},
        "harvest": read_json(cache_text.report_of(cache.path)),
        "commands": commands(args),
    }
    write_json(out / "run.json", run)
    started = time.perf_counter()
    saes = sk.train(None, cache, sae=configs, config=config, out=out)
    write_json(out / "run.json", run | {"seconds": run["seconds"] + time.perf_counter() - started})
    for sae in saes:
        summary = sae.training_summary
        print(
            f"{sae.config.d_sae:>6}: explained variance {summary['explained_variance']:.3f}, L0 {summary['l0']:.1f}, "
            f"{summary['dead_features']} dead, model {sae.config.model_fingerprint}"
        )


def sae_config(args: argparse.Namespace, d_sae: int) -> sk.SAEConfig:
    shared: dict[str, Any] = {"d_in": 576, "d_sae": d_sae, "seed": args.seed, "dataset": "the default mixture"}
    if args.rule == "jumprelu":
        return sk.SAEConfig(activation="jumprelu", target_l0=float(args.k), **shared)
    nested = (d_sae // 16, d_sae // 4, d_sae) if args.nested else ()
    return sk.SAEConfig(activation=args.rule, k=args.k, matryoshka=nested, **shared)


def commit() -> str:
    """The commit that is checked out, marked where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    name = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout
    dirty = subprocess.run([*git, "status", "--porcelain", "-uno", "saekit", "recipes"], capture_output=True, text=True)
    return name.strip() + (" with changes" if dirty.stdout.strip() else "")


def commands(args: argparse.Namespace) -> list[str]:
    """What makes these SAEs, from an empty folder."""
    options = f"--rule {args.rule} --k {args.k} --tokens {args.tokens} --widths {' '.join(map(str, args.widths))}"
    options += " --nested" * args.nested + (f" --lr {args.lr}" if args.lr else "")
    options += (f" --dead-after {args.dead_after}" if args.dead_after else "") + f" --seed {args.seed}"
    widest = f"{len(args.widths) - 1}-{args.rule}-{args.widths[-1]}"
    script = "python -m recipes.default_saes.training FOLDER"
    return [
        "python -m recipes.default_saes.own_text FOLDER/own",
        f"{script} texts",
        f"{script} harvest --layers {args.layer}",
        f"{script} train --layer {args.layer} {options}",
        f"{script} golden FOLDER/{args.out}/{widest}",
        f"{script} ship",
    ]


def judged(args: argparse.Namespace) -> tuple[sk.LanguageModel, sk.SAE, sk.ActivationCache, Path]:
    with tempfile.TemporaryDirectory() as place:  # judged as it is packaged
        model, sae = sk.load_model(), named.as_stored(sk.load_sae(args.sae), Path(place) / "sae")
    cache = named.evidence_cache(args.folder, sae, args.evidence_tokens, args.products)
    return model, sae, cache, named.judging_folder(args.folder, sae, cache)


def concepts(args: argparse.Namespace) -> None:
    model, sae, cache, out = judged(args)
    done = named.judge(model, sae, cache, out, steering=not args.no_steering)
    print(f"\n{named.table(done)}\n\n{out / 'concepts.json'}")


def golden(args: argparse.Namespace) -> None:
    model, sae, cache, out = judged(args)
    _, report = named.halves(model, sae, cache, out)
    done = golden_gate.search(
        model,
        sae,
        report,
        out / "golden.json",
        n_screened=args.screened,
        strengths=tuple(args.strengths),
        n_final=args.final,
        max_new_tokens=args.new_tokens,
    )
    for feature, found in done["final"].items():
        print(golden_gate.report(feature, found))
    print(
        out / "golden.json" if done["final"] else "no screened feature steers to a bridge while the text holds together"
    )


def ship(args: argparse.Namespace) -> None:
    found = sorted((args.folder / args.saes).glob("[0-9]*-*/cfg.json"))
    sizes = {path.parent: read_json(path)["d_sae"] for path in found}
    names = {f"{d_sae // 1024}k" if d_sae >= 1024 else str(d_sae): path for path, d_sae in sizes.items()}
    cards.ship(
        args.folder,
        names,
        args.out,
        n_judged=args.judged_tokens,
        n_evidence=args.evidence_tokens,
        steering=not args.no_steering,
        products=args.products,
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("folder", type=Path)
    commands = top.add_subparsers(required=True)

    def command(run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(run.__name__, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.set_defaults(run=run)
        return sub

    sub = command(texts, "gather the text")
    sub.add_argument("--own", type=Path, help="text of own_text, if not FOLDER/own")
    sub.add_argument("--packages", type=Path, help="where packages are fetched, if not FOLDER/packages")
    command(layers, "where the model can be steered to the bridge, without an SAE")
    sub = command(harvest, "run the model over the mixture once")
    sub.add_argument("--layers", type=int, nargs="+", default=[comparison.MAIN])
    sub.add_argument("--tokens", type=int, help="of a part in which every source has its share, if not all")
    sub.add_argument("--out", default="activations")
    harvested = [sub]
    sub = command(compare, "layers, rules and sparsities")
    sub.add_argument("--cache", default="comparison")
    sub.add_argument("--d-sae", type=int, default=4096)
    sub.add_argument("--tokens", type=int, default=4_000_000, help="of training, several passes")
    sub.add_argument("--lr", type=float)
    judging = [sub]
    sub = command(train, "the three widths, on one stream")
    sub.add_argument("--cache", default="activations")
    sub.add_argument("--layer", type=int, default=comparison.MAIN)
    sub.add_argument("--widths", type=int, nargs="+", default=[1024, 4096, 16384])
    sub.add_argument("--rule", choices=["batchtopk", "topk", "jumprelu"], default="batchtopk")
    sub.add_argument("--k", type=int, default=32)
    sub.add_argument("--nested", action="store_true", help="nested prefixes of the features must reconstruct too")
    sub.add_argument("--tokens", type=int, default=24_000_000, help="of training, several passes")
    sub.add_argument("--lr", type=float, help="one rate for all widths, if not each its own")
    sub.add_argument("--dead-after", type=int, help="tokens of silence after which a feature is dead")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", default="saes")
    sub = command(concepts, "the twenty named concepts")
    sub.add_argument("sae", type=Path)
    judging.append(sub)
    sub = command(golden, "the feature that brings up the bridge")
    sub.add_argument("sae", type=Path)
    sub.add_argument("--screened", type=int, default=golden_gate.N_SCREENED)
    sub.add_argument("--strengths", type=float, nargs="+", default=list(golden_gate.STRENGTHS))
    sub.add_argument("--final", type=int, default=2)
    sub.add_argument("--new-tokens", type=int, default=40)
    harvested.append(sub)
    sub.add_argument("--evidence-tokens", type=int, default=300_000)
    sub = command(ship, "weights in float16 and their cards")
    sub.add_argument("--saes", default="saes")
    sub.add_argument("--out", type=Path, default=ROOT / "saekit/pretrained/smollm2-135m-instruct")
    sub.add_argument("--judged-tokens", type=int, default=60_000)
    judging.append(sub)
    for sub in judging:
        sub.add_argument("--evidence-tokens", type=int, default=300_000)
        sub.add_argument("--no-steering", action="store_true")
        harvested.append(sub)
    judging[0].add_argument("--judged-tokens", type=int, default=20_000)
    for sub in harvested:
        sub.add_argument("--products", choices=cache_text.PRODUCTS, help="if not the fastest that pays here")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    arguments.run(arguments)
