"""The clicker `ppo`, trained with PPO."""
