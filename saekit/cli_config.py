"""`saekit train --config run.yaml`: a file with sections that mirror what is called.

`model` has a name, `corpus` what `load_corpus` takes, `sae` the fields of SAEConfig and `train` those of TrainConfig;
`out` stands beside them. What is also an option becomes its default, so that the command line wins; the rest goes to
the dataclasses as it is. null is as if left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import typer

from .errors import DataError, FileError, SaekitError, unknown_name

CORPUS = ("source", "text", "labels", "split", "encoding")
NOT_SETTINGS = ("d_in", "d_out", "token_filter", "provenance")
"""Fields of SAEConfig that follow from the model or from the run."""


def use_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Makes what the file says the defaults of the command's options; a mistake is printed as an error."""
    if path is None:
        return None
    try:
        sections = read_config(path)
    except SaekitError as e:
        typer.echo(f"saekit: {e}", err=True)
        raise typer.Exit(1) from e
    options = {p.name for p in ctx.command.params}
    ctx.default_map = {k: v for k, v in _as_options(sections).items() if k in options and v is not None}
    return path


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a configuration file, every key checked; UnknownNameError names the nearest one."""
    from .json_files import read_yaml

    try:
        content = read_yaml(path) or {}
    except FileError as e:
        what = f"{path} is not YAML" if path.is_file() else f"cannot read the configuration {path}"
        fix = "mend it; saekit train --write-config prints one" if path.is_file() else "check the path"
        raise (DataError if path.is_file() else FileError)(what, got=e.got, fix=fix) from e
    known = _known()
    if not isinstance(content, Mapping):
        raise DataError(f"{path} has no sections", got=f"{content!r:.80}", accepted=", ".join(known))
    sections: dict[str, dict[str, Any]] = {"out": {"out": content.get("out")}}
    for section, values in content.items():
        if section not in known:
            raise unknown_name(f"section of {path.name}:", section, known)
        if section == "out":
            continue
        if isinstance(values, str) and section in ("model", "corpus"):
            values = {known[section][0]: values}
        if values is not None and not isinstance(values, Mapping):
            raise DataError(f"section {section} of {path.name} is not a table", got=values, accepted="key: value lines")
        for key in values or {}:
            if key not in known[section]:
                raise unknown_name(f"key in section {section} of {path.name}:", key, known[section])
        sections[section] = {k: v for k, v in (values or {}).items() if v is not None}
    return sections


def remaining(path: Path | None, section: str, options: Collection[str]) -> dict[str, Any]:
    """The fields of a section that are no options of `train`, for its dataclass."""
    if path is None:
        return {}
    found = read_config(path).get(section, {})
    return {
        k: tuple(v) if isinstance(v, list) else v for k, v in found.items() if k not in options and k != "hook_name"
    }


def write_config(ctx: typer.Context, wanted: bool) -> None:
    """Prints a file with every section and field at its default, and stops."""
    if not wanted:
        return
    import yaml

    defaults = {p.name: p.default for p in ctx.command.params if not callable(p.default)}
    for section, keys in _known().items():
        if section == "out":
            typer.echo("out: run")
            continue
        values = {key: _default(section, key, defaults) for key in keys}
        typer.echo(yaml.safe_dump({section: values}, sort_keys=False, allow_unicode=True), nl=False)
    raise typer.Exit


def _default(section: str, key: str, defaults: Mapping[str, Any]) -> Any:
    name = {"name": "model", "source": "corpus", "hook_name": "hook"}.get(key, key)
    value = defaults[name] if name in defaults else _fields(section).get(key)
    if value is dataclasses.MISSING:
        return None
    if isinstance(value, list | tuple):
        return (value[0] if len(value) == 1 else list(value)) if value else None
    return value if isinstance(value, str | int | float | bool | None) else None


def _known() -> dict[str, tuple[str, ...]]:
    return {
        "out": (),
        "model": ("name",),
        "corpus": CORPUS,
        "sae": tuple(_fields("sae")),
        "train": tuple(_fields("train")),
    }


def _fields(section: str) -> dict[str, Any]:
    import saekit as sk

    if section not in ("sae", "train"):
        return {}
    kind: Any = sk.SAEConfig if section == "sae" else sk.TrainConfig
    provenance = {f.name for f in dataclasses.fields(sk.activations.Provenance)}
    return {
        f.name: f.default
        for f in dataclasses.fields(kind)
        if f.name not in NOT_SETTINGS and (section == "train" or f.name not in provenance - {"prepend_bos"})
    }


def _as_options(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the sections say, by the names and in the form of the options."""
    sae = dict(sections.get("sae", {}))
    hook = sae.pop("hook_name", None)
    corpus = dict(sections.get("corpus", {}))
    labels, matryoshka = corpus.get("labels"), sae.get("matryoshka")
    return {
        **sae,
        **sections.get("train", {}),
        **corpus,
        "corpus": corpus.get("source"),
        "model": sections.get("model", {}).get("name"),
        "out": sections["out"]["out"],
        "hook": None if hook is None else [hook] if isinstance(hook, str) else ["+".join(hook)],
        "labels": ",".join(labels) if isinstance(labels, list) else labels,
        "matryoshka": ",".join(map(str, matryoshka)) if isinstance(matryoshka, list) else matryoshka,
    }
