"""The clicker `ppo`, learned by reinforcement."""
