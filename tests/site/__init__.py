"""The pages as a site: ``python -m tests.site`` lays them out as the repository does and builds."""
