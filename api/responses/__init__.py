"""The forms of an answer, errors included."""
