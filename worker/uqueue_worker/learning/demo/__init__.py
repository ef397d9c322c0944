"""The demo of active learning: blind spots of a classifier of fire precursors, found and closed through the queue."""
