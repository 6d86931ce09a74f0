"""The metrics of a feature for a concept, and what people call them."""

MEASURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1 at its threshold",
    "precision": "precision where it fires",
    "recall": "recall where it fires",
    "top_precision": "precision, top bin",
    "top_recall": "recall, top bin",
}
"""The metrics of a feature, in the order of tables, and their labels."""
