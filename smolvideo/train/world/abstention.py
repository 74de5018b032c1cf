"""The answer to a question that no drawing answers."""

ABSTENTION = "I only know drawn shapes."
"""Said in place of a guess: about people, weather, sounds, brands, feelings and general facts."""
