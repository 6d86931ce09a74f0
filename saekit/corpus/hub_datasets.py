"""Datasets of Hugging Face's `datasets`: from the hub, from a folder of `save_to_disk`, or as objects in memory.

Class labels come as their names. Importing `datasets` takes a second and a half, so nothing here does until one is
asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, FileError, UnknownNameError, unknown_name
from .rows import Row

Named = Callable[[dict[str, Any]], dict[str, Any]]


def is_dataset(source: object) -> bool:
    """Whether this is an object of `datasets`, of one split or of several; does not import it."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(
        source, datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict | datasets.IterableDatasetDict
    )


def is_saved(path: Path) -> bool:
    """Whether this is a folder that `save_to_disk` wrote, of one split or of several."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def open_saved(path: Path) -> Any:
    """The dataset in a folder of `save_to_disk`, its rows left on disk."""
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as e:
        raise FileError(f"cannot read the dataset in {path}", got=e, fix="save it again with save_to_disk") from e


def one_split(dataset: Any, split: str | None, name: str) -> Any:
    """The split that is asked for; without one "train", or the only one there is."""
    if not isinstance(dataset, Mapping):
        has = getattr(dataset, "split", None)
        if split is not None and split != str(has):
            raise UnknownNameError(
                f"{name} is one split and not {split!r}", got=split, accepted=str(has or "none"), fix="leave split= out"
            )
        return dataset
    if split is None and len(dataset) == 1:
        return next(iter(dataset.values()))
    if (split or "train") not in dataset:
        raise unknown_name(f"split of {name}:", split or "train", dataset, fix="pass split= with one of these")
    return dataset[split or "train"]


def size_of(dataset: Any) -> float:
    """Bytes that the rows take in memory; endless for what comes as a stream."""
    data = getattr(dataset, "data", None)
    return float("inf") if data is None else float(data.nbytes) * len(dataset) / max(len(data), 1)


def dataset_rows(dataset: Any, name: str, text: str, labels: Sequence[str] | None) -> Callable[[], Iterator[Row]]:
    """Opens the rows of a dataset: plain values, class labels by name, columns that are neither text nor label left."""
    import datasets

    features = dataset.features or {}
    root = text if text in features else text.partition(".")[0]
    if root in features:
        roots = {root, *(c.partition(".")[0] for c in labels or ()), *(labels or ())}
        plain = [c for c, f in features.items() if isinstance(f, datasets.Value | datasets.ClassLabel)]
        kept = [c for c in features if c in roots or (labels is None and c in plain)]
        dataset = dataset.select_columns(kept)
    dataset = dataset.with_format(None)
    named = _naming(features)

    def rows() -> Iterator[Row]:
        for i, row in enumerate(dataset):
            yield f"row {i} of {name}", row if named is None else named(row)

    return rows


def load_from_hub(name: str, split: str | None, streaming: bool) -> Any:
    """A dataset of the hub, or of a folder laid out as the hub lays one out: "owner/name" or "owner/name:config"."""
    import datasets

    path, _, configuration = name.partition(":") if not Path(name).exists() else (name, "", "")
    split = split or "train"
    try:
        return datasets.load_dataset(path, configuration or None, split=split, streaming=streaming)
    except datasets.exceptions.DatasetNotFoundError as e:
        raise UnknownNameError(
            f"no dataset {path!r} on the Hugging Face hub, and no file or folder of that name",
            got=name,
            accepted="'demo', a file, folder or glob, owner/name, or owner/name:configuration",
            fix="check the name; to use this as text, pass it in a list",
        ) from e
    except ValueError as e:  # an unknown split or configuration, which the message lists
        raise UnknownNameError(
            f"cannot read split {split!r} of dataset {path!r}: {e}",
            got=name,
            fix="pass split=..., or name the configuration as owner/name:configuration",
        ) from e
    except OSError as e:
        raise FileError(
            f"cannot reach dataset {path!r}, and there is no file or folder of that name",
            got=e,
            fix="check the name and the network",
        ) from e


def class_names(schema: Any) -> Named | None:
    """How to name the class labels in rows of a parquet file that `datasets` wrote; None when there is none."""
    if b"ClassLabel" not in (schema.metadata or {}).get(b"huggingface", b""):
        return None
    import datasets

    return _naming(datasets.Features.from_arrow_schema(schema))


def _naming(features: Mapping[str, Any]) -> Named | None:
    import datasets

    classes = {c: f for c, f in features.items() if isinstance(f, datasets.ClassLabel)}
    if not classes:
        return None

    def named(row: dict[str, Any]) -> dict[str, Any]:
        out = dict(row)
        for column, feature in classes.items():
            value = row.get(column)
            if value is None or value == -1 or isinstance(value, str):  # -1: without a label
                out[column] = None if value == -1 else value
                continue
            if not 0 <= value < feature.num_classes:
                raise DataError(
                    f"column {column!r} holds a class that it does not name",
                    got=value,
                    accepted=f"0 to {feature.num_classes - 1}: {', '.join(feature.names[:20])}",
                    fix="mend the class labels of the dataset",
                )
            out[column] = feature.int2str(int(value))
        return out

    return named
