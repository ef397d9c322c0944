"""What both sides agree on about active learning: feedback, scenarios, weak spots, suggestions, settings."""
