"""Putting a trained and calibrated pair where workers look for it: `uqueue publish`."""
