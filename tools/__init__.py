"""The front door: driver, command line, reports, data, models."""
