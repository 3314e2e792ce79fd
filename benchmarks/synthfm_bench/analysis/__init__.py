"""From episodes to figures: aggregation, statistics, comparisons."""
