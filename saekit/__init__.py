"""saekit: sparse autoencoder features in Jupyter."""
