"""Publishing of results: Hugging Face's evaluation results and model cards, and challenges on Codabench."""
