"""Text in, token windows out."""

from .documents import Corpus, Document
from .sources import load_corpus
from .windows import Windows, iter_windows, tokenize

__all__ = ["Corpus", "Document", "Windows", "iter_windows", "load_corpus", "tokenize"]
