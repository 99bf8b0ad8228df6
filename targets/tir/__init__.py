"""Builders of TIR that know no CPU and no GPU; a target's dialect says what its own words are."""
