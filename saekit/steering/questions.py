"""Everyday questions that name no concept: some to choose a feature and a strength with, others to report them on.

What a clamp does is measured on questions that had no part in choosing it, and whose own answers do not mention the
concept. These are about everyday things; check with `Concept.present` that none mentions a concept of yours.
"""

from __future__ import annotations

SCREENING_QUESTIONS = (
    "Who are you?",
    "How do I bake bread?",
    "Tell me about your family.",
    "What is your favourite animal?",
    "Write a short poem about the morning.",
    "Give me advice for my first day at work.",
)
"""For the choice of a feature and its strength."""
REPORTING_QUESTIONS = (
    "What is your name?",
    "How do I wash a wool sweater?",
    "Tell me a story about a cat.",
    "What did you do yesterday?",
    "Explain what a poem is.",
    "How can I sleep better?",
    "What is the best breakfast?",
    "Describe your best friend.",
    "Why do people laugh?",
    "Give me three tips for learning to draw.",
    "What should I wear to a wedding?",
    "How do plants grow?",
    "Write a short letter to my grandmother.",
    "What makes a good teacher?",
    "Tell me something about music.",
    "How do I make new friends?",
    "What is your biggest fear?",
    "Recommend a hobby for the winter.",
    "What do you think about money?",
    "Describe a perfect weekend.",
)
"""For what is reported: none of them is a screening question."""
