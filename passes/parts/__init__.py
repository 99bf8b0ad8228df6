"""What several passes are made of: choosing layers, names, schedules, pieces of programs."""
