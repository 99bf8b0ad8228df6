"""GEMMs on AMX tiles."""
