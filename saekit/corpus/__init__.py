"""Text in, token windows out."""

from .document_tokens import document_text as document_text
from .documents import Corpus as Corpus
from .documents import Document as Document
from .sources import AnyCorpus as AnyCorpus
from .sources import as_corpus as as_corpus
from .sources import load_corpus as load_corpus
from .tokenization import iter_windows as iter_windows
from .tokenization import tokenize as tokenize
from .windows import Windows as Windows
