"""What a step would take elsewhere: accelerators as data, tiles, cycles, bits moved, energy."""
