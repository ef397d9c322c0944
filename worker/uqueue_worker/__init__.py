"""The worker: Celery app, tasks, models, artifacts, numerics."""
