"""The command line: Invoke tasks whose errors are printed as a sentence, never as a traceback.

scripts/invoke runs this package as a program: Invoke, with clearer errors for a misspelt command line. The
console script `dindkit` is the same program with the verbs of tasks.py built in.
"""
