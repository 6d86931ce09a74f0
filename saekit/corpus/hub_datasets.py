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
    """What names the class labels of a row, those in fields of fields and in lists too; None when there are none."""
    naming = {column: n for column, feature in features.items() if (n := _naming_of(feature, column))}
    if not naming:
        return None

    def named(row: dict[str, Any]) -> dict[str, Any]:
        return {column: naming[column](value) if column in naming else value for column, value in row.items()}

    return named


def _naming_of(feature: Any, column: str) -> Callable[[Any], Any] | None:
    """What names the class labels in a value of this feature; None when there are none in it."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return lambda value: _name_of(feature, column, value)
    if isinstance(feature, Mapping):
        fields = {k: n for k, f in feature.items() if (n := _naming_of(f, f"{column}.{k}"))}
        if not fields:
            return None
        return lambda value: value and {k: fields[k](v) if k in fields else v for k, v in value.items()}
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if inner is None or (each := _naming_of(inner, column)) is None:
        return None
    if isinstance(inner, Mapping):  # earlier versions hold a list of fields as lists in each field
        lists = {k: n for k, f in inner.items() if (n := _naming_of([f], f"{column}.{k}"))}

        def in_either(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {k: lists[k](v) if k in lists else v for k, v in value.items()}
            return value and [each(v) for v in value]

        return in_either
    return lambda value: value and [each(v) for v in value]


def _name_of(feature: Any, column: str, value: Any) -> Any:
    if value is None or value == -1 or isinstance(value, str):  # -1: without a label
        return None if value == -1 else value
    if not 0 <= value < feature.num_classes:
        raise DataError(
            f"column {column!r} holds a class that it does not name",
            got=value,
            accepted=f"0 to {feature.num_classes - 1}: {', '.join(feature.names[:20])}",
            fix="mend the class labels of the dataset",
        )
    return feature.int2str(int(value))
