"""What a bag holds and what `dseg record` would make of it, told before it happens."""
