"""Evaluating models: the local interface, and what it shares with those over HTTP and through the queue."""
