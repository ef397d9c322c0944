"""What active learning tells of itself: figures for Prometheus, and log lines that say what they belong to."""
