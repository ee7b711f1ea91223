"""The stations of a region as one: what is silent at one follows from what is heard at all. Pure, numpy only.

Everything is computed by numpy's own element-wise loops and `einsum`, never by BLAS or LAPACK, whose results
depend on how many threads they were given: the same readings give the same bytes.
"""
