"""Speech in, the same with a mark that says "synthetic" out: Resemble's Perth, on a stream.

The weights are those of the package resemble-perth. The code is ours: that one marks whole files.
"""
