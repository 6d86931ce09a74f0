"""Other libraries' training steps, measured beside ours: each in an environment and a process of its own."""
