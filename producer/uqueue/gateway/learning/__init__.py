"""/learning: active learning over HTTP. The learning worker does the work; the gateway only asks it."""
