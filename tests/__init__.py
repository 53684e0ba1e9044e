"""The tests of Maskmill."""
