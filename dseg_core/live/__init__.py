"""Recording from sensors that send now: bounded memory, parts that survive a kill, the same frames as from a bag."""
