"""Head morphology: crops of heads, pseudo-masks without training, networks that class them, and why they did.

Stages of the graph import from here what they need; nothing is imported on its own.
"""
