"""Defines the scale on which the logits of several sources are added."""

# A view that is certain has this logit: larger ones are clamped. Otherwise one plane that is wrong and certain would
# outvote two that are right.
CERTAIN_LOGIT = 8.0
