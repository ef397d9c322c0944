"""From weak spots to scenarios, and from scenarios to samples that say what they are for."""
