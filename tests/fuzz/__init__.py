"""Hostile input, made up by hypothesis: whatever comes in ends in success or in one sentence.

Each target has a strategy for its cases, which are valid files with faults in them, and a check. The suite
tries some cases of each; `invoke test --fuzz MINUTES` goes on for as long as it is told.
"""
