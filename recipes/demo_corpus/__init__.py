"""The demo corpus: about 1,600 documents that the default model wrote about bridges, landmarks and other topics."""
