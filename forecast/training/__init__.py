"""How a forecast bundle is made: trees with scikit-learn, networks with torch (the `train` extra). No worker
comes here.
"""
