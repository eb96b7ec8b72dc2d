"""What the command ``demo`` is made of: its data, its scene, its steps."""
