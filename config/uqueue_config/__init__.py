"""What client and worker agree on: settings, names, messages, errors, the job ledger."""
