"""First on the path of a contender that does not ask for hiredis; `Contender.has_hiredis` says why."""

raise ImportError("hidden from this contender")
