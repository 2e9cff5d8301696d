"""Measures. `truth`: frames against the drawn truth at every strength, on scenes and on photographs."""
