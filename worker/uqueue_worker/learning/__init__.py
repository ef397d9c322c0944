"""Active learning: finds where a model is weak, and aims new labelled samples there."""
